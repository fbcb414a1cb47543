"""Flax nnx: parameters of ``OptimizedLSTMCell``, ``LSTMCell`` and ``GRUCell``, as a state or as nested dicts.

    params = import_lstm(nnx.state(cell, nnx.Param))      # from a cell

    state = nnx.state(cell, nnx.Param)                    # to a cell
    nnx.replace_by_pure_dict(state, export_lstm(params))
    nnx.update(cell, state)

``OptimizedLSTMCell`` has ``dense_i: {kernel [D, 4H]}`` and ``dense_h: {kernel [H, 4H], bias [4H]}`` with gates i, f, g,
o, the layout of ``LSTMParams``. ``LSTMCell`` has one kernel per gate, like linen's, but names the forget gate's input
kernel ``if_``. ``GRUCell`` has ``dense_i: {kernel, bias}`` and ``dense_h: {kernel}`` and no b_hn, so ``candidate_bias``
must be 0 for the export.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from lstm_jax._core.checks import check_name, check_type
from lstm_jax._core.structs import LSTMParams
from lstm_jax.cells import GRUParams
from lstm_jax.interop import linen
from lstm_jax.interop.arrays import check_zero_bias, flatten_cell_params, strip_scopes, unwrap_variables

CELL_NAMES = ("OptimizedLSTMCell", "LSTMCell")
UNBOX = "nnx.to_pure_dict"
"""Name of the function that converts a state of variables to nested dicts of arrays."""


def import_lstm(params: Mapping[str, Any]) -> LSTMParams:
    """Converts the parameters of nnx's ``OptimizedLSTMCell`` or ``LSTMCell`` to ``LSTMParams``.

    Args:
        params: ``nnx.state(cell, nnx.Param)`` or nested dicts of arrays, of the cell or of an ``nnx.RNN``:
            ``{"cell": ...}``.
    Returns:
        ``LSTMParams``.
    Raises:
        ValueError: if an array is missing, unexpected or has the wrong shape.

    Example:
        >>> import numpy as np, lstm_jax as lj
        >>> recurrent = {"kernel": np.zeros((8, 32), np.float32), "bias": np.zeros(32, np.float32)}
        >>> cell = {"dense_i": {"kernel": np.zeros((3, 32), np.float32)}, "dense_h": recurrent}
        >>> lj.interop.nnx.import_lstm({"cell": cell}).input_kernel.shape
        (3, 32)
    """
    cell = strip_scopes(params, ("cell",))
    if "ii" in cell:
        return linen.import_lstm({"if" if name == "if_" else name: leaves for name, leaves in cell.items()})
    axes = {"dense_h.kernel": "H 4H", "dense_i.kernel": "D 4H", "dense_h.bias": "4H"}
    arrays = flatten_cell_params(cell, axes, UNBOX)
    return LSTMParams(*(arrays[name] for name in ("dense_i.kernel", "dense_h.kernel", "dense_h.bias")))


def export_lstm(params: LSTMParams, cell_name: str = "OptimizedLSTMCell") -> dict[str, dict[str, Any]]:
    """Converts ``LSTMParams`` to the parameters of nnx's ``OptimizedLSTMCell`` or ``LSTMCell``.

    Args:
        params: ``LSTMParams``.
        cell_name: type of the target cell, ``"OptimizedLSTMCell"`` or ``"LSTMCell"``.
    Returns:
        nested dicts of arrays, for ``nnx.replace_by_pure_dict``; those of ``nnx.RNN`` are ``{"cell": ...}``.
    Raises:
        ValueError: if ``params`` is not ``LSTMParams`` or ``cell_name`` is unknown.

    Example:
        >>> import jax, lstm_jax as lj
        >>> params = lj.init_params(jax.random.key(0), 3, 8)
        >>> sorted(lj.interop.nnx.export_lstm(params)), sorted(lj.interop.nnx.export_lstm(params, "LSTMCell"))[:5]
        (['dense_h', 'dense_i'], ['hf', 'hg', 'hi', 'ho', 'if_'])
    """
    check_name("cell_name", cell_name, CELL_NAMES)
    if cell_name == "LSTMCell":
        return {"if_" if name == "if" else name: leaves for name, leaves in linen.export_lstm(params).items()}
    check_type("params", params, LSTMParams)
    params = unwrap_variables(params)
    return {
        "dense_i": {"kernel": params.input_kernel},
        "dense_h": {"kernel": params.recurrent_kernel, "bias": params.bias},
    }


def import_gru(params: Mapping[str, Any]) -> GRUParams:
    """Converts the parameters of nnx's ``GRUCell`` to ``GRUParams`` with a ``candidate_bias`` of 0.

    Args:
        params: ``nnx.state(cell, nnx.Param)`` or nested dicts of arrays, of the cell or of an ``nnx.RNN``:
            ``{"cell": ...}``.
    Returns:
        ``GRUParams``.
    Raises:
        ValueError: if an array is missing, unexpected or has the wrong shape.

    Example:
        >>> import numpy as np, lstm_jax as lj
        >>> inputs = {"kernel": np.zeros((3, 24), np.float32), "bias": np.zeros(24, np.float32)}
        >>> cell = {"dense_i": inputs, "dense_h": {"kernel": np.zeros((8, 24), np.float32)}}
        >>> lj.interop.nnx.import_gru(cell).candidate_bias.tolist() == [0.0] * 8
        True
    """
    axes = {"dense_h.kernel": "H 3H", "dense_i.kernel": "D 3H", "dense_i.bias": "3H"}
    arrays = flatten_cell_params(strip_scopes(params, ("cell",)), axes, UNBOX)
    kernel, recurrent_kernel = arrays["dense_i.kernel"], arrays["dense_h.kernel"]
    candidate_bias = jnp.zeros(recurrent_kernel.shape[0], recurrent_kernel.dtype)
    return GRUParams(kernel, recurrent_kernel, arrays["dense_i.bias"], candidate_bias)


def export_gru(params: GRUParams) -> dict[str, dict[str, Any]]:
    """Converts ``GRUParams`` to the parameters of nnx's ``GRUCell``.

    Args:
        params: ``GRUParams`` whose ``candidate_bias`` is 0, since ``GRUCell`` has no such bias.
    Returns:
        nested dicts of arrays, for ``nnx.replace_by_pure_dict``; those of ``nnx.RNN`` are ``{"cell": ...}``.
    Raises:
        ValueError: if ``params`` is not ``GRUParams`` or ``candidate_bias`` is not 0.

    Example:
        >>> import jax, lstm_jax as lj
        >>> params = lj.cells.GRU.init(jax.random.key(0), 3, 8)
        >>> lj.interop.nnx.export_gru(params)["dense_i"]["kernel"].shape
        (3, 24)
    """
    check_type("params", params, GRUParams)
    params = unwrap_variables(params)
    check_zero_bias(params.candidate_bias, "nnx.GRUCell has no b_hn (candidate_bias); linen.GRUCell has")
    return {
        "dense_i": {"kernel": params.input_kernel, "bias": params.bias},
        "dense_h": {"kernel": params.recurrent_kernel},
    }
