"""Ways to run the LSTM's loop over time; ``table`` has them by name."""
