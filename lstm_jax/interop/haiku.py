"""Haiku: parameters of ``hk.LSTM``, ``{"w": [D + H, 4H], "b": [4H]}`` under the name ``"lstm/linear"``.

The first D rows of ``w`` multiply x and the other H rows multiply h; gates are in the order i, g, f, o. ``hk.LSTM``
adds 1 to the forget gate's pre-activation at each step; the import adds this 1 to the forget bias instead and the
export subtracts it. Rounding changes the forget bias by at most 2^-23; all other values are returned bit by bit. The
state is ``hk.LSTMState(hidden, cell)``.

``hk.GRU`` multiplies the reset gate into h before the matrix product, so it cannot be converted to ``cells.GRU``.
"""

from collections.abc import Mapping
from typing import Any

from lstm_jax._core.checks import check_array, check_type
from lstm_jax._core.structs import LSTMParams
from lstm_jax.interop.arrays import (
    check_keys,
    join_gates,
    reorder_gates,
    split_gates,
    strip_scopes,
    to_jax,
    unwrap_variables,
)

FORGET_OFFSET = 1
"""The constant that ``hk.LSTM`` adds to the forget gate's pre-activation."""


def import_lstm(params: Mapping[str, Any]) -> LSTMParams:
    """Converts the parameters of ``hk.LSTM`` to ``LSTMParams``.

    Args:
        params: ``{"w": ..., "b": ...}``, or ``{"lstm/linear": {"w": ..., "b": ...}}``.
    Returns:
        ``LSTMParams``, with 1 added to the forget gate's bias.
    Raises:
        ValueError: if an array is missing, unexpected or has the wrong shape.

    Example:
        >>> import numpy as np, lstm_jax as lj
        >>> module = {"w": np.zeros((3 + 8, 32), np.float32), "b": np.zeros(32, np.float32)}
        >>> params = lj.interop.haiku.import_lstm({"lstm/linear": module})
        >>> params.input_kernel.shape, params.bias[8:16].tolist() == [1.0] * 8
        ((3, 32), True)
    """
    module = strip_scopes(params, [name for name in params if name.endswith("linear")])
    check_keys("params", module, ("w", "b"))
    arrays = to_jax(dict(module), "params")
    hidden_size = arrays["b"].shape[-1] // 4
    num_rows = max(arrays["w"].shape[0], hidden_size + 1)
    check_array("params['w']", arrays["w"], (num_rows, 4 * hidden_size))
    check_array("params['b']", arrays["b"], (4 * hidden_size,))
    kernel, bias = (reorder_gates(leaf, "igfo", "ifgo") for leaf in (arrays["w"], arrays["b"]))
    return LSTMParams(kernel[:-hidden_size], kernel[-hidden_size:], _add_to_forget_bias(bias, FORGET_OFFSET))


def export_lstm(params: LSTMParams) -> dict[str, Any]:
    """Converts ``LSTMParams`` to the parameters of ``hk.LSTM``: the inverse of ``import_lstm``.

    Args:
        params: ``LSTMParams``.
    Returns:
        ``{"w": ..., "b": ...}``, the parameters of the module ``"lstm/linear"``.
    Raises:
        ValueError: if ``params`` is not ``LSTMParams``.

    Example:
        >>> import jax, lstm_jax as lj
        >>> module = lj.interop.haiku.export_lstm(lj.init_params(jax.random.key(0), 3, 8))
        >>> module["w"].shape, module["b"].shape
        ((11, 32), (32,))
    """
    check_type("params", params, LSTMParams)
    params = unwrap_variables(params)
    kernel = join_gates([params.input_kernel.T, params.recurrent_kernel.T]).T
    bias = _add_to_forget_bias(params.bias, -FORGET_OFFSET)
    return {"w": reorder_gates(kernel, "ifgo", "igfo"), "b": reorder_gates(bias, "ifgo", "igfo")}


def _add_to_forget_bias(bias: Any, offset: int) -> Any:
    i, f, g, o = split_gates(bias, 4)
    return join_gates([i, f + offset, g, o])
