"""The Mogrifier LSTM of Melis, Kocisky and Blunsom 2020 (arXiv:1909.01792): x and h gate each other before the step.

for n = 1, 2, ..., rounds:
    x = 2 sigmoid(h Q_n) * x        n odd
    h = 2 sigmoid(x Q_n) * h        n even
i, f, g, o, c', h'                  as in ``lstm.py``, from these x and h
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import initializers as jax_init

from lstm_jax._core.checks import make_params_check
from lstm_jax._core.structs import Cell, LSTMState
from lstm_jax.cells import lstm
from lstm_jax.cells.dense import matmul, prepare_kernel
from lstm_jax.initializers import cell_init, forget_bias, init_kernels, zero_lstm_state


class MogrifierParams(NamedTuple):
    """Parameters of one layer with ``N`` rounds that gate x and ``M`` rounds that gate h, where N = M or M + 1."""

    input_kernel: jax.Array
    """``[D, 4H]``"""
    recurrent_kernel: jax.Array
    """``[H, 4H]``"""
    bias: jax.Array
    """``[4H]``"""
    input_gates: jax.Array
    """``[N, H, D]``: Q_1, Q_3, ..."""
    state_gates: jax.Array
    """``[M, D, H]``: Q_2, Q_4, ..."""


def project(params: MogrifierParams, x: jax.Array) -> jax.Array:
    """Returns ``x``: the state gates it before its product."""
    return x


def recur(params: MogrifierParams, x: jax.Array, state: LSTMState) -> jax.Array:
    """``x W + h R + b``, from x and h after the rounds."""
    h = state.h
    for n in range(params.input_gates.shape[0] + params.state_gates.shape[0]):
        if n % 2 == 0:
            x = _apply_gate(matmul(h, params.input_gates[n // 2]), x)
        else:
            h = _apply_gate(matmul(x, params.state_gates[n // 2]), h)
    return lstm.recur(params, lstm.project(params, x), state._replace(h=h))


@cell_init
def init(
    key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype, *, num_rounds: int = 5
) -> MogrifierParams:
    """Draws kernels and bias by the LSTM's default scheme, and Glorot uniform ``Q_n``.

    The default of 5 rounds is the best in the paper.
    """
    key, input_key, state_key = jax.random.split(key, 3)
    gates_init = jax_init.glorot_uniform(batch_axis=0)
    return MogrifierParams(
        *init_kernels(key, input_size, hidden_size, dtype),
        forget_bias(hidden_size, dtype),
        gates_init(input_key, ((num_rounds + 1) // 2, hidden_size, input_size), dtype),
        gates_init(state_key, (num_rounds // 2, input_size, hidden_size), dtype),
    )


check_shapes = make_params_check(
    MogrifierParams, recurrent_kernel="H 4H", input_kernel="D 4H", bias="4H", input_gates="N H D", state_gates="M D H"
)


def check(params: MogrifierParams, xs: jax.Array) -> None:
    """Raises ValueError if the parameters do not fit each other or the inputs."""
    check_shapes(params, xs)
    num_input_gates, num_state_gates = params.input_gates.shape[0], params.state_gates.shape[0]
    if num_input_gates - num_state_gates not in (0, 1):
        raise ValueError(
            f"params.state_gates: got {num_state_gates} rounds, input_gates {num_input_gates}; want as many or 1 less"
        )


MOGRIFIER_LSTM = Cell(
    init=init,
    project=project,
    recur=recur,
    update=lstm.update,
    zero_state=zero_lstm_state,
    prepare=prepare_kernel,
    check=check,
    gates=lstm.gates,
)


def _apply_gate(a: jax.Array, v: jax.Array) -> jax.Array:
    """Computes ``2 sigmoid(a) * v`` in the dtype of ``v``."""
    return (2 * jax.nn.sigmoid(a) * v.astype(a.dtype)).astype(v.dtype)
