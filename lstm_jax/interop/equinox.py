"""Equinox: ``eqx.nn.LSTMCell`` and ``eqx.nn.GRUCell``, converted through their attributes.

An ``LSTMCell`` has ``weight_ih [4H, D]``, ``weight_hh [4H, H]`` and ``bias [4H]``, with gates in the order i, f, g, o.
A ``GRUCell`` has gates r, z, n, ``bias [3H]`` and ``bias_n [H]``, which are the two biases of ``GRUParams``. Biases
that are None (``use_bias=False``) become 0. The state of an LSTM is ``(h, c)``. Exported arrays are written into a cell
by ``eqx.tree_at``:

    cell = eqx.tree_at(lambda cell: (cell.weight_ih, cell.weight_hh, cell.bias), cell, export_lstm(params))
"""

from typing import Any

from lstm_jax._core.checks import check_type
from lstm_jax._core.structs import LSTMParams
from lstm_jax.cells import GRUParams
from lstm_jax.interop.arrays import bias_or_zeros, check_named_axes, to_jax, unwrap_variables


def import_lstm(cell: Any) -> LSTMParams:
    """Converts an ``eqx.nn.LSTMCell``, or the gradient of one, to ``LSTMParams``.

    Args:
        cell: any object with the attributes ``weight_ih``, ``weight_hh`` and ``bias``.
    Returns:
        ``LSTMParams``.
    Raises:
        ValueError: if an attribute is missing or has the wrong shape.

    Example:
        >>> import numpy as np, lstm_jax as lj, types
        >>> cell = types.SimpleNamespace(weight_ih=np.ones((32, 3), "f4"), weight_hh=np.ones((32, 8), "f4"), bias=None)
        >>> lj.interop.equinox.import_lstm(cell).bias.shape  # an eqx.nn.LSTMCell(3, 8, use_bias=False) has these arrays
        (32,)
    """
    return LSTMParams(*_convert_cell_arrays(cell, ("weight_ih", "weight_hh", "bias"), 4))


def export_lstm(params: LSTMParams) -> tuple[Any, Any, Any]:
    """Converts ``LSTMParams`` to the arrays of an ``eqx.nn.LSTMCell``.

    Args:
        params: ``LSTMParams``.
    Returns:
        ``(weight_ih, weight_hh, bias)``, for ``eqx.tree_at``.
    Raises:
        ValueError: if ``params`` is not ``LSTMParams``.

    Example:
        >>> import jax, lstm_jax as lj
        >>> arrays = lj.interop.equinox.export_lstm(lj.init_params(jax.random.key(0), 3, 8))
        >>> [array.shape for array in arrays]
        [(32, 3), (32, 8), (32,)]
    """
    check_type("params", params, LSTMParams)
    params = unwrap_variables(params)
    return params.input_kernel.T, params.recurrent_kernel.T, params.bias


def import_gru(cell: Any) -> GRUParams:
    """Converts an ``eqx.nn.GRUCell``, or the gradient of one, to ``GRUParams``.

    Args:
        cell: any object with the attributes ``weight_ih``, ``weight_hh``, ``bias`` and ``bias_n``.
    Returns:
        ``GRUParams``.
    Raises:
        ValueError: if an attribute is missing or has the wrong shape.

    Example:
        >>> import numpy as np, lstm_jax as lj, types
        >>> kernels = {"weight_ih": np.ones((24, 3), "f4"), "weight_hh": np.ones((24, 8), "f4")}
        >>> cell = types.SimpleNamespace(**kernels, bias=np.ones(24, "f4"), bias_n=np.ones(8, "f4"))
        >>> lj.interop.equinox.import_gru(cell).candidate_bias.shape
        (8,)
    """
    return GRUParams(*_convert_cell_arrays(cell, ("weight_ih", "weight_hh", "bias", "bias_n"), 3))


def export_gru(params: GRUParams) -> tuple[Any, Any, Any, Any]:
    """Converts ``GRUParams`` to the arrays of an ``eqx.nn.GRUCell``.

    Args:
        params: ``GRUParams``.
    Returns:
        ``(weight_ih, weight_hh, bias, bias_n)``, for ``eqx.tree_at``.
    Raises:
        ValueError: if ``params`` is not ``GRUParams``.

    Example:
        >>> import jax, lstm_jax as lj
        >>> arrays = lj.interop.equinox.export_gru(lj.cells.GRU.init(jax.random.key(0), 3, 8))
        >>> [array.shape for array in arrays]
        [(24, 3), (24, 8), (24,), (8,)]
    """
    check_type("params", params, GRUParams)
    params = unwrap_variables(params)
    return params.input_kernel.T, params.recurrent_kernel.T, params.bias, params.candidate_bias


def _convert_cell_arrays(cell: Any, names: tuple[str, ...], num_gates: int) -> list[Any]:
    """Returns the two kernels of a cell as ``[D, gates * H]`` and ``[H, gates * H]``, then its biases, 0 if None."""
    missing = [name for name in names if not hasattr(cell, name)]
    if missing:
        raise ValueError(f"cell: got {type(cell).__name__} without {', '.join(missing)}, want a cell of equinox.nn")
    arrays = {name: to_jax(getattr(cell, name), "cell") for name in names if getattr(cell, name) is not None}
    slab = f"{num_gates}H"
    check_named_axes("cell", arrays, {"weight_hh": f"{slab} H", "weight_ih": f"{slab} D", "bias": slab, "bias_n": "H"})
    kernels = [arrays["weight_ih"].T, arrays["weight_hh"].T]
    hidden_size = kernels[1].shape[0]
    bias_sizes = {"bias": num_gates * hidden_size, "bias_n": hidden_size}
    return kernels + [bias_or_zeros(arrays.get(name), kernels[0], bias_sizes[name]) for name in names[2:]]
