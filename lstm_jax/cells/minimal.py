"""minGRU and minLSTM of Feng et al. 2024 (arXiv:2410.01201): gates that depend on the input alone.

    minGRU      z = sigmoid(x W_z + b_z)     v = x W_v + b_v     h' = (1 - z) h + z v
    minLSTM     f, i = sigmoid(x W + b)      v = x W_v + b_v     h' = (f h + i v) / (f + i)

Both are ``h' = decay * h + increment`` with coefficients computed from the input before the loop. The loop has no
matrix product, and ``lstm_jax.parallel_unroll`` replaces it by an associative scan of log2 T steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.checks import make_params_check
from lstm_jax._core.structs import Cell, PyTree, accumulator_dtype
from lstm_jax.cells.dense import add_bias, matmul
from lstm_jax.initializers import cell_init, forget_bias, init_kernels


class MinGRUParams(NamedTuple):
    """Parameters of one minGRU layer; blocks in the order z, v."""

    input_kernel: jax.Array
    """``[D, 2H]``"""
    bias: jax.Array
    """``[2H]``"""


class MinLSTMParams(NamedTuple):
    """Parameters of one minLSTM layer; blocks in the order f, i, v."""

    input_kernel: jax.Array
    """``[D, 3H]``"""
    bias: jax.Array
    """``[3H]``"""


class AffineStep(NamedTuple):
    """The coefficients of one step ``h' = decay * h + increment``, each ``[..., H]``."""

    decay: jax.Array
    increment: jax.Array


def project_gru(params: MinGRUParams, x: jax.Array) -> AffineStep:
    """``decay = 1 - z`` and ``increment = z v``."""
    a_z, v = jnp.split(add_bias(matmul(x, params.input_kernel), params.bias), 2, axis=-1)
    z = jax.nn.sigmoid(a_z)
    return AffineStep(1 - z, z * v)


def project_lstm(params: MinLSTMParams, x: jax.Array) -> AffineStep:
    """``decay = f / (f + i)`` and ``increment = i v / (f + i)``.

    The decay is computed as sigmoid(log f - log i), which is accurate where both gates are near 0.
    """
    a_f, a_i, v = jnp.split(add_bias(matmul(x, params.input_kernel), params.bias), 3, axis=-1)
    decay = jax.nn.sigmoid(jax.nn.log_sigmoid(a_f) - jax.nn.log_sigmoid(a_i))
    return AffineStep(decay, (1 - decay) * v)


def recur(params: PyTree, z: AffineStep, h: jax.Array) -> AffineStep:
    """Returns ``z``: the state adds nothing to the pre-activations."""
    return z


def update(params: PyTree, a: AffineStep, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``h' = decay * h + increment``: the state in the accumulator dtype, the output in that of the parameters."""
    new_h = a.decay * h + a.increment
    return new_h, new_h.astype(params.bias.dtype)


def gates(params: PyTree, a: AffineStep, h: jax.Array) -> dict[str, jax.Array]:
    """``f``, the decay of the state ``[..., H]``: 1 - z in a minGRU, f / (f + i) in a minLSTM."""
    return {"f": a.decay}


@cell_init
def init_gru(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> MinGRUParams:
    """Draws a Glorot uniform kernel per block; biases are 0 except ``b_z = -1``, which favors keeping the state."""
    kernel, _ = init_kernels(key, input_size, hidden_size, dtype, 2)
    return MinGRUParams(kernel, -forget_bias(hidden_size, dtype, "fv"))


@cell_init
def init_lstm(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> MinLSTMParams:
    """Draws a Glorot uniform kernel per block; biases are 0 except ``b_f = 1``, which favors keeping the state."""
    kernel, _ = init_kernels(key, input_size, hidden_size, dtype, 3)
    return MinLSTMParams(kernel, forget_bias(hidden_size, dtype, "fiv"))


def _make_cell(
    init: Callable[..., PyTree], params_type: type, project: Callable[[PyTree, jax.Array], AffineStep], num_gates: int
) -> Cell:
    def zero_state(params: PyTree, batch_shape: tuple[int, ...] = ()) -> jax.Array:
        """``h = 0``: ``[*batch, H]``."""
        return jnp.zeros((*batch_shape, params.bias.shape[0] // num_gates), accumulator_dtype(params.bias.dtype))

    check = make_params_check(params_type, input_kernel="D M", bias="M")
    return Cell(
        init=init,
        project=project,
        recur=recur,
        update=update,
        zero_state=zero_state,
        check=check,
        gates=gates,
    )


MIN_GRU = _make_cell(init_gru, MinGRUParams, project_gru, 2)
MIN_LSTM = _make_cell(init_lstm, MinLSTMParams, project_lstm, 3)
