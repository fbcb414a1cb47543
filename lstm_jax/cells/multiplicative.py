"""The multiplicative LSTM of Krause, Lu, Murray and Renals 2016 (arXiv:1609.07959).

m = (x W_m) * (h R_m)
i, f, g, o, c', h'      as in ``lstm.py``, with m in place of h
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.checks import make_params_check
from lstm_jax._core.structs import Cell, LSTMState
from lstm_jax.cells import lstm
from lstm_jax.cells.dense import add_bias, matmul, prepare_kernel
from lstm_jax.initializers import cell_init, forget_bias, init_kernels, zero_lstm_state


class MultiplicativeParams(NamedTuple):
    """Parameters of one layer; gates in the order i, f, g, o."""

    input_kernel: jax.Array
    """``[D, 4H]``"""
    recurrent_kernel: jax.Array
    """``[H, 4H]``"""
    bias: jax.Array
    """``[4H]``"""
    input_factor: jax.Array
    """``[D, H]``: W_m"""
    recurrent_factor: jax.Array
    """``[H, H]``: R_m"""


def project(params: MultiplicativeParams, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``x W`` and ``x W_m``."""
    return lstm.project(params, x), matmul(x, params.input_factor)


def recur(params: MultiplicativeParams, z: tuple[jax.Array, jax.Array], state: LSTMState) -> jax.Array:
    """``m = (x W_m) * (h R_m)``, then ``x W + m R + b``."""
    x_gates, x_factor = z
    m = (x_factor * matmul(state.h, params.recurrent_factor)).astype(state.h.dtype)
    return add_bias(x_gates + matmul(m, params.recurrent_kernel), params.bias)


def prepare(params: MultiplicativeParams) -> MultiplicativeParams:
    """Adds transposed copies to ``R`` and ``R_m``."""
    return prepare_kernel(params, ("recurrent_kernel", "recurrent_factor"))


@cell_init
def init(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> MultiplicativeParams:
    """Draws Glorot uniform input kernels and orthogonal recurrent kernels, with forget biases of 1."""
    key, factor_key = jax.random.split(key)
    kernels = init_kernels(key, input_size, hidden_size, dtype)
    return MultiplicativeParams(
        *kernels, forget_bias(hidden_size, dtype), *init_kernels(factor_key, input_size, hidden_size, dtype, 1)
    )


check = make_params_check(
    MultiplicativeParams,
    recurrent_kernel="H 4H",
    input_kernel="D 4H",
    bias="4H",
    input_factor="D H",
    recurrent_factor="H H",
)
MULTIPLICATIVE_LSTM = Cell(
    init=init,
    project=project,
    recur=recur,
    update=lstm.update,
    zero_state=zero_lstm_state,
    prepare=prepare,
    check=check,
    gates=lstm.gates,
)
