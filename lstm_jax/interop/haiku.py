"""Haiku: parameters of ``hk.LSTM``, ``{"w": [D + H, 4H], "b": [4H]}`` under the name ``"lstm/linear"``.

Rows of x first, then of h; gates in the order i, g, f, o; and the cell adds 1 to the forget gate at each step, which
here is a visible part of the bias. That sum rounds, so the forget bias comes back within 2^-23 of what it was, where
all else comes back bit by bit. The state is ``hk.LSTMState(hidden, cell)``.

``hk.GRU`` multiplies the reset gate into h before the matrix product and cannot be converted to ``cells.GRU``.
"""

from collections.abc import Mapping
from typing import Any

from lstm_jax._core.checks import check_array, check_type
from lstm_jax._core.structs import LSTMParams
from lstm_jax.interop.arrays import check_keys, concatenate, reorder, split, to_jax, without_scopes

FORGET_OFFSET = 1
"""What ``hk.LSTM`` adds to the forget gate's pre-activation."""


def import_lstm(params: Mapping[str, Any]) -> LSTMParams:
    """The module's parameters, or ``{"lstm/linear": ...}`` around them.

    Raises:
        ValueError: naming a missing, unexpected or misshapen array.
    """
    module = without_scopes(params, [name for name in params if name.endswith("linear")])
    check_keys("params", module, ("w", "b"))
    arrays = to_jax(dict(module), "params")
    hidden = arrays["b"].shape[-1] // 4
    rows = max(arrays["w"].shape[0], hidden + 1)
    check_array("params['w']", arrays["w"], (rows, 4 * hidden))
    check_array("params['b']", arrays["b"], (4 * hidden,))
    kernel, bias = (reorder(leaf, "igfo", "ifgo") for leaf in (arrays["w"], arrays["b"]))
    return LSTMParams(kernel[:-hidden], kernel[-hidden:], _shift(bias, FORGET_OFFSET))


def export_lstm(params: LSTMParams) -> dict[str, Any]:
    """The inverse of ``import_lstm``: the parameters of the module ``"lstm/linear"``."""
    check_type("params", params, LSTMParams)
    rows = concatenate([params.input_kernel.T, params.recurrent_kernel.T]).T
    return {"w": reorder(rows, "ifgo", "igfo"), "b": reorder(_shift(params.bias, -FORGET_OFFSET), "ifgo", "igfo")}


def _shift(bias: Any, offset: int) -> Any:
    i, f, g, o = split(bias, 4)
    return concatenate([i, f + offset, g, o])
