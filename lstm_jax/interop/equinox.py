"""Equinox: ``eqx.nn.LSTMCell`` and ``eqx.nn.GRUCell``, read by attribute.

``weight_ih [4H, D]``, ``weight_hh [4H, H]``, ``bias [4H]``, gates i, f, g, o; a GRU's r, z, n with ``bias [3H]`` and
``bias_n [H]``, which are our two. ``use_bias=False`` leaves None, here 0. The state is ``(h, c)``.

    cell = eqx.tree_at(lambda cell: (cell.weight_ih, cell.weight_hh, cell.bias), cell, export_lstm(params))
"""

from typing import Any

from lstm_jax._core.checks import check_type
from lstm_jax._core.structs import LSTMParams
from lstm_jax.cells import GRUParams
from lstm_jax.interop.arrays import check_named, to_jax, zeros_if_missing


def import_lstm(cell: Any) -> LSTMParams:
    """An ``eqx.nn.LSTMCell``, or a gradient of one."""
    return LSTMParams(*_read(cell, ("weight_ih", "weight_hh", "bias"), 4))


def export_lstm(params: LSTMParams) -> tuple[Any, Any, Any]:
    """``(weight_ih, weight_hh, bias)`` for ``eqx.tree_at``."""
    check_type("params", params, LSTMParams)
    return params.input_kernel.T, params.recurrent_kernel.T, params.bias


def import_gru(cell: Any) -> GRUParams:
    """An ``eqx.nn.GRUCell``, or a gradient of one."""
    return GRUParams(*_read(cell, ("weight_ih", "weight_hh", "bias", "bias_n"), 3))


def export_gru(params: GRUParams) -> tuple[Any, Any, Any, Any]:
    """``(weight_ih, weight_hh, bias, bias_n)`` for ``eqx.tree_at``."""
    check_type("params", params, GRUParams)
    return params.input_kernel.T, params.recurrent_kernel.T, params.bias, params.candidate_bias


def _read(cell: Any, names: tuple[str, ...], gates: int) -> list[Any]:
    absent = [name for name in names if not hasattr(cell, name)]
    if absent:
        raise ValueError(f"cell: got {type(cell).__name__} without {', '.join(absent)}, want a cell of equinox.nn")
    arrays = {name: to_jax(getattr(cell, name), "cell") for name in names if getattr(cell, name) is not None}
    slab = f"{gates}H"
    axes = {"weight_hh": f"{slab} H", "weight_ih": f"{slab} D", "bias": slab, "bias_n": "H"}
    check_named("cell", arrays, axes)
    kernels = [arrays["weight_ih"].T, arrays["weight_hh"].T]
    hidden = kernels[1].shape[0]
    sizes = {"bias": gates * hidden, "bias_n": hidden}
    return kernels + [zeros_if_missing(arrays.get(name), kernels[0], sizes[name]) for name in names[2:]]
