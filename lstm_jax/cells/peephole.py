"""The LSTM with peepholes of Gers, Schraudolph and Schmidhuber 2002 (JMLR 3), one weight per gate and unit.

i = sigmoid(x W_i + h R_i + p_i * c + b_i)
f = sigmoid(x W_f + h R_f + p_f * c + b_f)
g = tanh(x W_g + h R_g + b_g)
c' = f * c + i * g
o = sigmoid(x W_o + h R_o + p_o * c' + b_o)       the output gate reads the new memory
h' = o * tanh(c')
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lstm_jax._core.checks import make_params_check
from lstm_jax._core.structs import Cell, LSTMState
from lstm_jax.cells import blocks
from lstm_jax.cells.blocks import GateBlocks
from lstm_jax.cells.dense import prepare_kernel
from lstm_jax.cells.gates import GateSpec, apply_gates, new_memory
from lstm_jax.initializers import cell_init, forget_bias, init_kernels, zero_lstm_state

BEFORE_MEMORY, AFTER_MEMORY = GateSpec("ifg"), GateSpec("o")
"""The gates computed before the new memory, and the output gate, which reads it."""


class PeepholeParams(NamedTuple):
    """Parameters of one layer; gates in the order i, f, g, o."""

    input_kernel: jax.Array
    """``[D, 4H]``"""
    recurrent_kernel: jax.Array
    """``[H, 4H]``"""
    bias: jax.Array
    """``[4H]``"""
    peepholes: jax.Array
    """``[3H]``: p_i, p_f, p_o"""


def recur(params: PeepholeParams, z: GateBlocks, state: LSTMState) -> GateBlocks:
    """``x W + h R + b``, plus ``p_i * c`` and ``p_f * c``; ``update`` adds ``p_o * c'`` to the output gate."""
    i, f, g, o = blocks.recur(params, z, state)
    p_i, p_f, _ = _peepholes(params, state.c)
    return i + p_i * state.c, f + p_f * state.c, g, o


def update(params: PeepholeParams, a: GateBlocks, state: LSTMState) -> tuple[LSTMState, jax.Array]:
    """``c' = f * c + i * g`` and ``h' = o * tanh(c')``."""
    gate_values, c = _gates_and_memory(params, a, state)
    h = (gate_values["o"] * jnp.tanh(c)).astype(state.h.dtype)
    return LSTMState(h, c), h


def gates(params: PeepholeParams, a: GateBlocks, state: LSTMState) -> dict[str, jax.Array]:
    """``i, f, g, o``, each ``[..., H]``."""
    return _gates_and_memory(params, a, state)[0]


def _gates_and_memory(
    params: PeepholeParams, a: GateBlocks, state: LSTMState
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Computes ``i, f, g, o`` and ``c'``; o depends on c'."""
    early_gates = apply_gates(BEFORE_MEMORY, a[:3])
    c = new_memory(BEFORE_MEMORY, early_gates, state.c)
    output_gate = apply_gates(AFTER_MEMORY, (a[3] + _peepholes(params, c)[2] * c,))
    return early_gates | output_gate, c


def _peepholes(params: PeepholeParams, c: jax.Array) -> list[jax.Array]:
    """Returns ``p_i, p_f, p_o`` in the dtype and rank of the memory ``c``."""
    return jnp.split(lax.broadcast_to_rank(params.peepholes.astype(c.dtype), c.ndim), 3, axis=-1)


@cell_init
def init(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> PeepholeParams:
    """Draws kernels and bias by the LSTM's default scheme, and peepholes from N(0, 0.1^2)."""
    kernels_key, peephole_key = jax.random.split(key)
    kernels = init_kernels(kernels_key, input_size, hidden_size, dtype)
    return PeepholeParams(
        *kernels, forget_bias(hidden_size, dtype), 0.1 * jax.random.normal(peephole_key, (3 * hidden_size,), dtype)
    )


check = make_params_check(PeepholeParams, recurrent_kernel="H 4H", input_kernel="D 4H", bias="4H", peepholes="3H")
PEEPHOLE_LSTM = Cell(
    init=init,
    project=blocks.make_project(4),
    recur=recur,
    update=update,
    zero_state=zero_lstm_state,
    prepare=prepare_kernel,
    check=check,
    gates=gates,
)
