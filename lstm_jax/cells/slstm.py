"""The sLSTM of Beck et al. 2024 (xLSTM, arXiv:2405.04517): exponential gates, a normalizer and a stabilizer.

    i = exp(a_i)    f = sigmoid(a_f)    g = tanh(a_g)    o = sigmoid(a_o)
    c' = f c + i g        n' = f n + i        h' = o c' / n'

with a = x W + h R + b. The state stores c exp(-m) and n exp(-m), with the stabilizer m' = max(log f + m, a_i), so that
no exponential overflows. The output h does not depend on m, which cancels in c' / n'. A sequence starts with c = n = 0
and ``m = EMPTY_STABILIZER``. At a tie log f + m = a_i JAX gives each argument of the maximum half of the derivative;
the derivative of h is smooth there, since m cancels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.checks import make_params_check
from lstm_jax._core.structs import Cell, LSTMParams, accumulator_dtype, join_gates, split_gates
from lstm_jax.cells import lstm
from lstm_jax.cells.dense import prepare_kernel
from lstm_jax.initializers import cell_init, init_kernels

EMPTY_STABILIZER = -1e30
"""The stabilizer of the zero state, in place of minus infinity: exp(EMPTY_STABILIZER - m') is 0 at the first step."""


class SLSTMState(NamedTuple):
    """The state of the sLSTM between two steps, each ``[*batch, H]``."""

    h: jax.Array
    """the output; dtype of the parameters"""
    c: jax.Array
    """the memory times exp(-m)"""
    n: jax.Array
    """the normalizer times exp(-m)"""
    m: jax.Array
    """the stabilizer: the logarithm of the largest weight in the memory"""


def update(params: LSTMParams, a: jax.Array, state: SLSTMState) -> tuple[SLSTMState, jax.Array]:
    """``c' = f c + i g``, ``n' = f n + i`` and ``h' = o c' / n'``, with stabilized gates."""
    (i, f, g, o), m = _stabilized_gates(a, state)
    c, n = f * state.c + i * g, f * state.n + i
    h = (o * c / n).astype(state.h.dtype)
    return SLSTMState(h, c, n, m), h


def gates(params: LSTMParams, a: jax.Array, state: SLSTMState) -> dict[str, jax.Array]:
    """``i exp(-m'), f exp(m - m'), g, o``: the stabilized gates, each ``[..., H]``."""
    return dict(zip("ifgo", _stabilized_gates(a, state)[0], strict=True))


def _stabilized_gates(a: jax.Array, state: SLSTMState) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """Computes ``(i exp(-m'), f exp(m - m'), g, o)`` and ``m' = max(log f + m, a_i)``."""
    a_i, a_f, a_g, a_o = split_gates(a)
    log_f_plus_m = jax.nn.log_sigmoid(a_f) + state.m
    m = jnp.maximum(log_f_plus_m, a_i)
    return (jnp.exp(a_i - m), jnp.exp(log_f_plus_m - m), jnp.tanh(a_g), jax.nn.sigmoid(a_o)), m


def zero_state(params: LSTMParams, batch_shape: tuple[int, ...] = ()) -> SLSTMState:
    """``h = c = n = 0`` and ``m = EMPTY_STABILIZER``, each ``[*batch, H]``."""
    kernel = params.recurrent_kernel
    zeros = jnp.zeros((*batch_shape, kernel.shape[0]), accumulator_dtype(kernel.dtype))
    return SLSTMState(zeros.astype(kernel.dtype), zeros, zeros, jnp.full_like(zeros, EMPTY_STABILIZER))


@cell_init
def init(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> LSTMParams:
    """Draws kernels by the LSTM's default scheme, with forget biases evenly spaced from 3 to 6 over the units."""
    kernels = init_kernels(key, input_size, hidden_size, dtype)
    forget_biases = jnp.linspace(3.0, 6.0, hidden_size, dtype=dtype)
    zeros = jnp.zeros_like(forget_biases)
    return LSTMParams(*kernels, join_gates(zeros, forget_biases, zeros, zeros))


check = make_params_check(LSTMParams, recurrent_kernel="H 4H", input_kernel="D 4H", bias="4H")
SLSTM = Cell(
    init=init,
    project=lstm.project,
    recur=lstm.recur,
    update=update,
    zero_state=zero_state,
    prepare=prepare_kernel,
    check=check,
    gates=gates,
)
