"""Flax nnx: parameters of ``OptimizedLSTMCell``, ``LSTMCell`` and ``GRUCell`` as nested dicts.

    nnx.to_pure_dict(nnx.state(cell, nnx.Param))          the parameters as a dict
    state = nnx.state(cell, nnx.Param)                    and back
    nnx.replace_by_pure_dict(state, parameters)
    nnx.update(cell, state)

``OptimizedLSTMCell``: ``dense_i: {kernel [D, 4H]}`` and ``dense_h: {kernel [H, 4H], bias [4H]}``, gates i, f, g, o as
ours. ``LSTMCell``: one kernel a gate, as in linen, but ``if_`` for the forget gate's. The two trees differ.
``GRUCell`` has ``dense_i: {kernel, bias}`` and ``dense_h: {kernel}`` and no ``b_hn``: ours must be 0 to go there.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from lstm_jax._core.checks import check_name, check_type
from lstm_jax._core.structs import LSTMParams
from lstm_jax.cells import GRUParams
from lstm_jax.interop import linen
from lstm_jax.interop.arrays import arrays_of, check_droppable, without_scopes

CELLS = ("OptimizedLSTMCell", "LSTMCell")
UNBOX = "nnx.to_pure_dict"


def import_lstm(params: Mapping[str, Any]) -> LSTMParams:
    """The parameters of either LSTM cell, or ``{"cell": ...}`` around them as in ``nnx.RNN``.

    Raises:
        ValueError: naming a missing, unexpected or misshapen array.
    """
    cell = without_scopes(params, ("cell",))
    if "ii" in cell:
        return linen.import_lstm({"if" if name == "if_" else name: parts for name, parts in cell.items()})
    axes = {"dense_h.kernel": "H 4H", "dense_i.kernel": "D 4H", "dense_h.bias": "4H"}
    arrays = arrays_of(cell, axes, UNBOX)
    return LSTMParams(*(arrays[name] for name in ("dense_i.kernel", "dense_h.kernel", "dense_h.bias")))


def export_lstm(params: LSTMParams, cell: str = "OptimizedLSTMCell") -> dict[str, dict[str, Any]]:
    """The inverse of ``import_lstm``, for the cell of this name."""
    check_name("cell", cell, CELLS)
    if cell == "LSTMCell":
        return {"if_" if name == "if" else name: parts for name, parts in linen.export_lstm(params).items()}
    check_type("params", params, LSTMParams)
    return {
        "dense_i": {"kernel": params.input_kernel},
        "dense_h": {"kernel": params.recurrent_kernel, "bias": params.bias},
    }


def import_gru(params: Mapping[str, Any]) -> GRUParams:
    """The parameters of ``GRUCell``, with ``{"cell": ...}`` around them or not; the missing ``b_hn`` is 0."""
    axes = {"dense_h.kernel": "H 3H", "dense_i.kernel": "D 3H", "dense_i.bias": "3H"}
    arrays = arrays_of(without_scopes(params, ("cell",)), axes, UNBOX)
    kernel, recurrent = arrays["dense_i.kernel"], arrays["dense_h.kernel"]
    return GRUParams(kernel, recurrent, arrays["dense_i.bias"], jnp.zeros(recurrent.shape[0], recurrent.dtype))


def export_gru(params: GRUParams) -> dict[str, dict[str, Any]]:
    """The inverse of ``import_gru``.

    Raises:
        ValueError: ``candidate_bias`` is not 0.
    """
    check_type("params", params, GRUParams)
    check_droppable(params.candidate_bias, "nnx.GRUCell has no b_hn (candidate_bias); linen.GRUCell has")
    return {
        "dense_i": {"kernel": params.input_kernel, "bias": params.bias},
        "dense_h": {"kernel": params.recurrent_kernel},
    }
