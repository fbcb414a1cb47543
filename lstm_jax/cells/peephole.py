"""The LSTM with peepholes of Gers, Schraudolph and Schmidhuber 2002 (JMLR 3), one weight a unit.

i = sigmoid(x W_i + h R_i + p_i * c + b_i)
f = sigmoid(x W_f + h R_f + p_f * c + b_f)
g = tanh(x W_g + h R_g + b_g)
c' = f * c + i * g
o = sigmoid(x W_o + h R_o + p_o * c' + b_o)       the output gate looks at the new memory
h' = o * tanh(c')
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lstm_jax.cells import blocks
from lstm_jax.cells.blocks import Blocks
from lstm_jax.cells.dense import lay_out
from lstm_jax.cells.gates import Form, activate, remember
from lstm_jax.checks import params_check
from lstm_jax.initializers import draw_kernels, forget_bias, zero_memory
from lstm_jax.structs import Cell, LSTMState

BEFORE, AFTER = Form("ifg"), Form("o")
"""The gates before the memory and the one after it."""


class PeepholeParams(NamedTuple):
    """Parameters of one layer; blocks i, f, g, o."""

    input_kernel: jax.Array
    """``[D, 4H]``"""
    recurrent_kernel: jax.Array
    """``[H, 4H]``"""
    bias: jax.Array
    """``[4H]``"""
    peepholes: jax.Array
    """``[3H]``: p_i, p_f, p_o"""


def recur(params: PeepholeParams, z: Blocks, state: LSTMState) -> Blocks:
    """The four pre-activations, but for what the output gate sees of the new memory."""
    i, f, g, o = blocks.recur(params, z, state)
    p_i, p_f, _ = _peepholes(params, state.c)
    return i + p_i * state.c, f + p_f * state.c, g, o


def update(params: PeepholeParams, a: Blocks, state: LSTMState) -> tuple[LSTMState, jax.Array]:
    """The memory, then the output gate that looks at it."""
    found, c = _look(params, a, state)
    h = (found["o"] * jnp.tanh(c)).astype(state.h.dtype)
    return LSTMState(h, c), h


def gates(params: PeepholeParams, a: Blocks, state: LSTMState) -> dict[str, jax.Array]:
    """``i, f, g, o``, each ``[..., H]``."""
    return _look(params, a, state)[0]


def _look(params: PeepholeParams, a: Blocks, state: LSTMState) -> tuple[dict[str, jax.Array], jax.Array]:
    """The gates and the new memory."""
    found = activate(BEFORE, a[:3])
    c = remember(BEFORE, found, state.c)
    return found | activate(AFTER, (a[3] + _peepholes(params, c)[2] * c,)), c


def _peepholes(params: PeepholeParams, like: jax.Array) -> list[jax.Array]:
    """``p_i, p_f, p_o`` in the dtype and rank of the memory."""
    return jnp.split(lax.broadcast_to_rank(params.peepholes.astype(like.dtype), like.ndim), 3, axis=-1)


check = params_check(PeepholeParams, recurrent_kernel="H 4H", input_kernel="D 4H", bias="4H", peepholes="3H")
PEEPHOLE_LSTM = Cell(blocks.projection(4), recur, update, zero_memory, lay_out, check, gates)


def draw(key: jax.Array, inputs: int, hidden: int, dtype: jnp.dtype) -> PeepholeParams:
    """The kernels and bias as the LSTM's default scheme; peepholes normal of scale 0.1."""
    kernels_key, peephole_key = jax.random.split(key)
    kernels = draw_kernels(kernels_key, inputs, hidden, dtype)
    return PeepholeParams(
        *kernels, forget_bias(hidden, dtype), 0.1 * jax.random.normal(peephole_key, (3 * hidden,), dtype)
    )
