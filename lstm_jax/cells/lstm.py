"""The LSTM of Hochreiter and Schmidhuber 1997 with the forget gate of Gers, Schmidhuber and Cummins 2000.

    i = sigmoid(x W_i + h R_i + b_i)          input gate
    f = sigmoid(x W_f + h R_f + b_f)          forget gate
    g = tanh(x W_g + h R_g + b_g)             candidate
    o = sigmoid(x W_o + h R_o + b_o)          output gate
    c' = f * c + i * g                        memory
    h' = o * tanh(c')                         output

Tutorials print variants: ``h' = o * tanh(g)``, one matrix shared by x and h, an output read from ``c'``.
They are misprints or other models; the equations above are what every framework computes.
"""

import jax
import jax.numpy as jnp
from jax import lax

from lstm_jax.cells.activations import tanh
from lstm_jax.cells.dense import add_bias, lay_out, matmul
from lstm_jax.checks import check_lstm_params
from lstm_jax.initializers import zero_state
from lstm_jax.structs import Cell, LSTMParams, LSTMState, join_gates, split_gates


def project(params: LSTMParams, x: jax.Array) -> jax.Array:
    """``x W``: ``[..., D] -> [..., 4H]``."""
    return matmul(x, params.input_kernel)


def recur(params: LSTMParams, z: jax.Array, state: LSTMState) -> jax.Array:
    """``x W + h R + b``: all four pre-activations, ``[..., 4H]``."""
    return add_bias(z + matmul(state.h, params.recurrent_kernel), params.bias)


def update(params: LSTMParams, a: jax.Array, state: LSTMState) -> tuple[LSTMState, jax.Array]:
    """Gates and memory from the pre-activations ``a [..., 4H]``.

    One tanh over the whole slab, sliced afterwards, since sigmoid(x) = (1 + tanh(x / 2)) / 2. Nonlinearities
    applied to four slices do not vectorise on CPU: 13.0 against 2.7 ns for each cell of a step (B=32 H=256).
    """
    i, f, g, o = split_gates(tanh(a * _halves(a)))
    i, f, o = (0.5 * gate + 0.5 for gate in (i, f, o))
    c = f * state.c + i * g
    h = (o * jnp.tanh(c)).astype(state.h.dtype)
    return LSTMState(h, c), h


def _halves(a: jax.Array) -> jax.Array:
    """1/2 over the blocks of the three sigmoids and 1 over that of the candidate; exact, being powers of two."""
    i, f, g, o = split_gates(jnp.ones(a.shape[-1], a.dtype))
    return lax.broadcast_to_rank(join_gates(0.5 * i, 0.5 * f, g, 0.5 * o), a.ndim)


LSTM = Cell(project, recur, update, zero_state, lay_out, check_lstm_params)
