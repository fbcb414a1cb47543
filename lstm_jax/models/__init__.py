"""Small models over plain trees of arrays, each a file: what the examples train."""

from lstm_jax.models import classifier, ctc_recognizer, forecaster, language_model, layers, memory_qa, seq2seq

__all__ = ["classifier", "ctc_recognizer", "forecaster", "language_model", "layers", "memory_qa", "seq2seq"]
