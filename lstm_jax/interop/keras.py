"""Keras 3: ``layer.get_weights()`` of ``LSTM``, ``GRU`` (``reset_after=True``) and ``Bidirectional`` of them.

``[kernel [D, 4H], recurrent_kernel [H, 4H], bias [4H]]``, gates i, f, c, o as ours: nothing moves. ``use_bias=False``
leaves the bias out; ``Bidirectional`` lists the forward layer, then the backward one. ``unit_forget_bias`` is a number
in the bias. A GRU has gates z, r, n and ``bias [2, 3H]``: the input's and the recurrent one; we keep the sum for z and
r, written back on the input's side. Layers with other activations than the standard ones have the same weights but
compute something else.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_jax._core.checks import check_array, check_type
from lstm_jax._core.structs import Bidirectional, LSTMParams, PyTree
from lstm_jax.cells import GRUParams
from lstm_jax.interop.arrays import Array, check_droppable, concatenate, reorder, to_jax, to_numpy, zeros_if_missing


def import_lstm(weights: Sequence[Any]) -> PyTree:
    """``layer.get_weights()`` to ``LSTMParams``, or ``Bidirectional`` of two: one layer of ``lstm_stack``."""
    return _import(weights, 4, LSTMParams)


def import_gru(weights: Sequence[Any]) -> PyTree:
    """``layer.get_weights()`` to ``GRUParams``, or ``Bidirectional`` of two."""
    return _import(weights, 3, _gru_params)


def export_lstm(params: PyTree, *, use_bias: bool = True) -> list[Array]:
    """The inverse of ``import_lstm``, for ``layer.set_weights(...)``."""
    return _export(params, use_bias, LSTMParams, lambda params: [to_numpy(leaf) for leaf in params])


def export_gru(params: PyTree, *, use_bias: bool = True) -> list[Array]:
    """The inverse of ``import_gru``: b_r, b_z and b_n on the input's side, b_hn on the recurrent one."""
    return _export(params, use_bias, GRUParams, _gru_weights)


def _gru_params(kernel: Array, recurrent: Array, bias: Array) -> GRUParams:
    size = recurrent.shape[0]
    kernel, recurrent, both = (reorder(leaf, "zrn", "rzn") for leaf in (kernel, recurrent, bias))
    merged = concatenate([both[0, : 2 * size] + both[1, : 2 * size], both[0, 2 * size :]])
    return GRUParams(kernel, recurrent, merged, both[1, 2 * size :])


def _gru_weights(params: GRUParams) -> list[Array]:
    kernel, recurrent, bias, candidate = map(to_numpy, params)
    other = np.concatenate([np.zeros(2 * candidate.shape[0], bias.dtype), candidate])
    return [reorder(leaf, "rzn", "zrn") for leaf in (kernel, recurrent, np.stack([bias, other]))]


def _import(weights: Sequence[Any], gates: int, build: Any) -> PyTree:
    arrays = [to_numpy(array) for array in weights]
    if len(arrays) in (4, 6):
        half = len(arrays) // 2
        if arrays[0].shape != arrays[half].shape:
            raise ValueError(
                f"weights[{half}]: got shape {arrays[half].shape}, want {arrays[0].shape}: both directions of a "
                "Bidirectional layer read the same inputs; give layers of a model one by one"
            )
        return Bidirectional(_import(arrays[:half], gates, build), _import(arrays[half:], gates, build))
    if len(arrays) not in (2, 3):
        raise ValueError(
            f"weights: got {len(arrays)} arrays, want 2 or 3 of one layer, or 4 or 6 of a Bidirectional one"
        )
    kernel, recurrent = arrays[:2]
    hidden = recurrent.shape[0]
    check_array("weights[0]", kernel, (kernel.shape[0], gates * hidden))
    check_array("weights[1]", recurrent, (hidden, gates * hidden))
    bias: Array = arrays[2] if len(arrays) == 3 else zeros_if_missing(None, kernel, gates * hidden)
    if gates == 3 and bias.ndim == 1 and len(arrays) == 3:
        raise ValueError(
            f"weights[2]: got shape {bias.shape}, want {(2, 3 * hidden)}: with reset_after=False the reset gate acts "
            "before the matrix product, which cells.GRU does not compute"
        )
    bias = np.broadcast_to(bias, (2, gates * hidden)) if gates == 3 and len(arrays) == 2 else bias
    check_array("weights[2]", bias, (2, 3 * hidden) if gates == 3 else (4 * hidden,))
    return to_jax(build(kernel, recurrent, bias))


def _export(params: PyTree, use_bias: bool, kind: type, weights: Any) -> list[Array]:
    if isinstance(params, Bidirectional):
        return [array for one in params for array in _export(one, use_bias, kind, weights)]
    check_type("params", params, kind)
    *kernels, bias = weights(params)
    if use_bias:
        return [*kernels, bias]
    check_droppable(bias, "a layer with use_bias=False has none")
    return kernels
