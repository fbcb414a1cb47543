"""Weights from and to other frameworks, one module for each; none of the frameworks is imported.

Every module of a framework has ``import_lstm`` and ``export_lstm``, and ``import_gru`` and ``export_gru`` if the
framework's GRU computes what ``cells.GRU`` does. Conversions only move numbers: an import followed by an export gives
back the same bits, unless two biases were added into one. Each module states its rule for biases. Wherever an array is
taken, a NumPy array and an ``nnx.Variable`` are taken as well.
"""

from lstm_jax.interop import cudnn, equinox, haiku, keras, linen, nnx, onnx, safetensors, torch

__all__ = ["cudnn", "equinox", "haiku", "keras", "linen", "nnx", "onnx", "safetensors", "torch"]
