"""Conversion of weights from and to other frameworks: one module per framework, which does not import the framework.

Each module has ``import_lstm`` and ``export_lstm``, and also ``import_gru`` and ``export_gru`` if the framework's GRU
has the equations of ``cells.GRU``. Conversions only rearrange values: an import followed by an export returns the same
bits, unless two biases were added into one. Each module documents how it treats biases. Arguments may hold NumPy
arrays, JAX arrays or ``nnx.Variable`` objects.
"""

from lstm_jax.interop import cudnn, equinox, haiku, keras, linen, nnx, onnx, safetensors, torch

__all__ = ["cudnn", "equinox", "haiku", "keras", "linen", "nnx", "onnx", "safetensors", "torch"]
