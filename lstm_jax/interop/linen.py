"""Flax linen: parameters of ``LSTMCell`` and ``OptimizedLSTMCell``, which have the same tree, and of ``GRUCell``.

    ii, if, ig, io: {kernel [D, H]}    hi, hf, hg, ho: {kernel [H, H], bias [H]}

Each gate has its own kernels, and the bias is on the recurrent side. The carry is ``(c, h)``, which becomes
``LSTMState(h=h, c=c)``. A GRU has ``ir, iz, in: {kernel, bias}``, ``hr, hz: {kernel}`` and ``hn: {kernel, bias}``,
which match the two biases of ``GRUParams``.
"""

from collections.abc import Mapping
from typing import Any

from lstm_jax._core.checks import check_type
from lstm_jax._core.structs import LSTMParams
from lstm_jax.cells import GRUParams
from lstm_jax.interop.arrays import flatten_cell_params, join_gates, split_gates, strip_scopes, unwrap_variables

LSTM_AXES = {f"{side}{gate}.kernel": f"{axis} H" for side, axis in ("hH", "iD") for gate in "ifgo"}
LSTM_AXES |= {f"h{gate}.bias": "H" for gate in "ifgo"}
GRU_AXES = {f"{side}{gate}.kernel": f"{axis} H" for side, axis in ("hH", "iD") for gate in "rzn"}
GRU_AXES |= {f"{name}.bias": "H" for name in ("ir", "iz", "in", "hn")}
UNBOX = "flax.linen.meta.unbox"
"""Name of the function that unboxes parameters, such as those of ``nn.with_partitioning``."""


def import_lstm(params: Mapping[str, Any]) -> LSTMParams:
    """Converts the parameters of linen's ``LSTMCell`` or ``OptimizedLSTMCell`` to ``LSTMParams``.

    Args:
        params: the parameters of the cell, or those of ``nn.RNN``: ``{"cell": ...}`` or
            ``{"params": {"cell": ...}}``.
    Returns:
        ``LSTMParams``.
    Raises:
        ValueError: if an array is missing, unexpected, boxed or has the wrong shape.

    Example:
        >>> import jax, lstm_jax as lj
        >>> variables = {"params": {"cell": lj.interop.linen.export_lstm(lj.init_params(jax.random.key(0), 3, 8))}}
        >>> lj.interop.linen.import_lstm(variables).input_kernel.shape
        (3, 32)
    """
    cell = strip_scopes(params, ("params", "cell"))
    arrays = flatten_cell_params(cell, LSTM_AXES, UNBOX)
    return LSTMParams(
        join_gates([arrays[f"i{gate}.kernel"] for gate in "ifgo"]),
        join_gates([arrays[f"h{gate}.kernel"] for gate in "ifgo"]),
        join_gates([arrays[f"h{gate}.bias"] for gate in "ifgo"]),
    )


def export_lstm(params: LSTMParams) -> dict[str, dict[str, Any]]:
    """Converts ``LSTMParams`` to the parameters of linen's ``LSTMCell`` and ``OptimizedLSTMCell``.

    Args:
        params: ``LSTMParams``.
    Returns:
        the parameters of the cell; those of ``nn.RNN`` are ``{"cell": export_lstm(params)}``.
    Raises:
        ValueError: if ``params`` is not ``LSTMParams``.

    Example:
        >>> import jax, lstm_jax as lj
        >>> cell = lj.interop.linen.export_lstm(lj.init_params(jax.random.key(0), 3, 8))
        >>> sorted(cell), cell["hf"]["bias"].shape
        (['hf', 'hg', 'hi', 'ho', 'if', 'ig', 'ii', 'io'], (8,))
    """
    check_type("params", params, LSTMParams)
    input_kernels, recurrent_kernels, biases = (split_gates(leaf, 4) for leaf in unwrap_variables(params))
    input_side = {f"i{gate}": {"kernel": kernel} for gate, kernel in zip("ifgo", input_kernels, strict=True)}
    recurrent_side = zip("ifgo", recurrent_kernels, biases, strict=True)
    return input_side | {f"h{gate}": {"kernel": kernel, "bias": bias} for gate, kernel, bias in recurrent_side}


def import_gru(params: Mapping[str, Any]) -> GRUParams:
    """Converts the parameters of linen's ``GRUCell`` to ``GRUParams``.

    Args:
        params: the parameters of the cell, or those of ``nn.RNN``: ``{"cell": ...}`` or
            ``{"params": {"cell": ...}}``.
    Returns:
        ``GRUParams``.
    Raises:
        ValueError: if an array is missing, unexpected, boxed or has the wrong shape.

    Example:
        >>> import jax, lstm_jax as lj
        >>> cell = lj.interop.linen.export_gru(lj.cells.GRU.init(jax.random.key(0), 3, 8))
        >>> lj.interop.linen.import_gru({"cell": cell}).input_kernel.shape
        (3, 24)
    """
    cell = strip_scopes(params, ("params", "cell"))
    arrays = flatten_cell_params(cell, GRU_AXES, UNBOX)
    return GRUParams(
        join_gates([arrays[f"i{gate}.kernel"] for gate in "rzn"]),
        join_gates([arrays[f"h{gate}.kernel"] for gate in "rzn"]),
        join_gates([arrays[f"i{gate}.bias"] for gate in "rzn"]),
        arrays["hn.bias"],
    )


def export_gru(params: GRUParams) -> dict[str, dict[str, Any]]:
    """Converts ``GRUParams`` to the parameters of linen's ``GRUCell``.

    Args:
        params: ``GRUParams``.
    Returns:
        the parameters of the cell; those of ``nn.RNN`` are ``{"cell": export_gru(params)}``.
    Raises:
        ValueError: if ``params`` is not ``GRUParams``.

    Example:
        >>> import jax, lstm_jax as lj
        >>> cell = lj.interop.linen.export_gru(lj.cells.GRU.init(jax.random.key(0), 3, 8))
        >>> sorted(cell), sorted(cell["hn"])
        (['hn', 'hr', 'hz', 'in', 'ir', 'iz'], ['bias', 'kernel'])
    """
    check_type("params", params, GRUParams)
    params = unwrap_variables(params)
    input_kernels, recurrent_kernels, biases = (split_gates(leaf, 3) for leaf in params[:3])
    input_side = zip("rzn", input_kernels, biases, strict=True)
    cell = {f"i{gate}": {"kernel": kernel, "bias": bias} for gate, kernel, bias in input_side}
    cell |= {f"h{gate}": {"kernel": kernel} for gate, kernel in zip("rzn", recurrent_kernels, strict=True)}
    return cell | {"hn": {**cell["hn"], "bias": params.candidate_bias}}
