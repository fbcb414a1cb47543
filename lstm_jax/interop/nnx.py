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

from lstm_jax.cells import GRUParams
from lstm_jax.checks import check_kind, check_name
from lstm_jax.interop import linen
from lstm_jax.interop.arrays import check_droppable, check_keys, check_shapes, to_jax, without_scopes
from lstm_jax.structs import LSTMParams

CELLS = ("OptimizedLSTMCell", "LSTMCell")


def import_lstm(params: Mapping[str, Any]) -> LSTMParams:
    """The parameters of either LSTM cell, or ``{"cell": ...}`` around them as in ``nnx.RNN``.

    Raises:
        ValueError: naming a missing, unexpected or misshapen array.
    """
    cell = without_scopes(params, ("cell",))
    if "ii" in cell:
        return linen.import_lstm({"if" if name == "if_" else name: parts for name, parts in cell.items()})
    arrays = _flatten(cell, ("dense_i.kernel", "dense_h.kernel", "dense_h.bias"), 4)
    return LSTMParams(*(arrays[name] for name in ("dense_i.kernel", "dense_h.kernel", "dense_h.bias")))


def export_lstm(params: LSTMParams, cell: str = "OptimizedLSTMCell") -> dict[str, dict[str, Any]]:
    """The inverse of ``import_lstm``, for the cell of this name."""
    check_name("cell", cell, CELLS)
    if cell == "LSTMCell":
        return {"if_" if name == "if" else name: parts for name, parts in linen.export_lstm(params).items()}
    check_kind("params", params, LSTMParams)
    return {
        "dense_i": {"kernel": params.input_kernel},
        "dense_h": {"kernel": params.recurrent_kernel, "bias": params.bias},
    }


def import_gru(params: Mapping[str, Any]) -> GRUParams:
    """The parameters of ``GRUCell``, with ``{"cell": ...}`` around them or not; the missing ``b_hn`` is 0."""
    arrays = _flatten(without_scopes(params, ("cell",)), ("dense_i.kernel", "dense_i.bias", "dense_h.kernel"), 3)
    kernel, recurrent = arrays["dense_i.kernel"], arrays["dense_h.kernel"]
    return GRUParams(kernel, recurrent, arrays["dense_i.bias"], jnp.zeros(recurrent.shape[0], recurrent.dtype))


def export_gru(params: GRUParams) -> dict[str, dict[str, Any]]:
    """The inverse of ``import_gru``.

    Raises:
        ValueError: ``candidate_bias`` is not 0.
    """
    check_kind("params", params, GRUParams)
    check_droppable(params.candidate_bias, "nnx.GRUCell has no b_hn (candidate_bias); linen.GRUCell has")
    return {
        "dense_i": {"kernel": params.input_kernel, "bias": params.bias},
        "dense_h": {"kernel": params.recurrent_kernel},
    }


def _flatten(cell: Mapping[str, Any], names: tuple[str, ...], gates: int) -> dict[str, Any]:
    flat = {f"{module}.{part}": array for module, parts in cell.items() for part, array in dict(parts).items()}
    check_keys("params", flat, names)
    for name, array in flat.items():
        if hasattr(array, "get_metadata"):
            raise ValueError(f"params['{name}']: got {type(array).__name__}, want arrays; see nnx.to_pure_dict")
    arrays = to_jax(flat, "params")
    inputs, hidden = arrays["dense_i.kernel"].shape[0], arrays["dense_h.kernel"].shape[0]
    kernels = {"dense_i.kernel": (inputs, gates * hidden), "dense_h.kernel": (hidden, gates * hidden)}
    check_shapes("params", arrays, kernels | {name: (gates * hidden,) for name in names if name.endswith("bias")})
    return arrays
