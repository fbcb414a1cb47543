"""Small models over plain trees of arrays, each a file: what the examples train."""

from lstm_jax.models import classifier, forecaster, language_model, reader, recogniser, translator

__all__ = ["classifier", "forecaster", "language_model", "reader", "recogniser", "translator"]
