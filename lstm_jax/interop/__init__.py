"""Weights from and to other frameworks, one file each; none of them is imported.

Every file has ``import_lstm`` and ``export_lstm``, and ``import_gru`` and ``export_gru`` where the framework's GRU is
ours. Conversions only move numbers: an import followed by an export gives back the same bits, where the one bias that
we keep was not merged from two. Each file states its rule for biases.
"""

from lstm_jax.interop import cudnn, equinox, haiku, keras, linen, nnx, onnx, safetensors, torch

__all__ = ["cudnn", "equinox", "haiku", "keras", "linen", "nnx", "onnx", "safetensors", "torch"]
