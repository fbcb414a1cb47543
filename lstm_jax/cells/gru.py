"""The gated recurrent unit, in both conventions.

As cuDNN, PyTorch, Keras and Flax compute it, the reset gate acting after the matrix product:

    r = sigmoid(x W_r + h R_r + b_r)          reset gate
    z = sigmoid(x W_z + h R_z + b_z)          update gate
    n = tanh(x W_n + b_n + r * (h R_n + b_hn))     candidate
    h' = (1 - z) * n + z * h

As Cho et al. 2014 (arXiv:1406.1078) wrote it, the reset gate acting before the product, on h:

    n = tanh(x W_n + (r * h) R_n + b_n)            all else the same

The form after needs ``b_hn`` apart since ``r`` multiplies it; the form before has one bias a gate.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax.cells.dense import add_bias, lay_out, matmul
from lstm_jax.cells.simple import zero_state
from lstm_jax.checks import params_check
from lstm_jax.initializers import draw_kernels
from lstm_jax.structs import Cell


class GRUParams(NamedTuple):
    """Parameters of one GRU layer; blocks of ``H`` in the order r, z, n."""

    input_kernel: jax.Array
    """``[D, 3H]``"""
    recurrent_kernel: jax.Array
    """``[H, 3H]``"""
    bias: jax.Array
    """``[3H]``: b_r, b_z, b_n"""
    candidate_bias: jax.Array
    """``[H]``: b_hn, inside the product with the reset gate"""


class Preactivations(NamedTuple):
    """What the gates see; the candidate's two parts stay apart because ``r`` multiplies one of them."""

    reset_update: jax.Array
    """``[..., 2H]``"""
    candidate_input: jax.Array
    """``[..., H]``"""
    candidate_state: jax.Array
    """``[..., H]``"""


def project(params: GRUParams, x: jax.Array) -> jax.Array:
    """``x W``: ``[..., D] -> [..., 3H]``."""
    return matmul(x, params.input_kernel)


def recur(params: GRUParams, z: jax.Array, h: jax.Array) -> Preactivations:
    """The pre-activations from ``z [..., 3H]`` and ``h [..., H]``."""
    gates = 2 * h.shape[-1]
    z = add_bias(z, params.bias)
    r = matmul(h, params.recurrent_kernel)
    candidate_state = add_bias(r[..., gates:], params.candidate_bias)
    return Preactivations(z[..., :gates] + r[..., :gates], z[..., gates:], candidate_state)


def update(params: GRUParams, a: Preactivations, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The new state, which is also the output."""
    r, z = jnp.split(jax.nn.sigmoid(a.reset_update), 2, axis=-1)
    return _mix(z, jnp.tanh(a.candidate_input + r * a.candidate_state), h)


check = params_check(GRUParams, recurrent_kernel="H 3H", input_kernel="D 3H", bias="3H", candidate_bias="H")
GRU = Cell(project, recur, update, zero_state, lay_out, check)


class OriginalGRUParams(NamedTuple):
    """Parameters of one layer in the original convention; blocks of ``H`` in the order r, z, n."""

    input_kernel: jax.Array
    """``[D, 3H]``"""
    recurrent_kernel: jax.Array
    """``[H, 3H]``"""
    bias: jax.Array
    """``[3H]``"""


def recur_before(params: OriginalGRUParams, z: jax.Array, h: jax.Array) -> jax.Array:
    """The pre-activations ``[..., 3H]``: of the gates, and with their reset gate of the candidate."""
    width = 2 * h.shape[-1]
    z = add_bias(z, params.bias)
    gates = z[..., :width] + matmul(h, params.recurrent_kernel[:, :width])
    r = jax.nn.sigmoid(jnp.split(gates, 2, axis=-1)[0])
    candidate = z[..., width:] + matmul((r * h.astype(r.dtype)).astype(h.dtype), params.recurrent_kernel[:, width:])
    return jnp.concatenate([gates, candidate], axis=-1)


def update_before(params: OriginalGRUParams, a: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The new state, which is also the output."""
    _, z, n = jnp.split(a, 3, axis=-1)
    return _mix(jax.nn.sigmoid(z), jnp.tanh(n), h)


def _mix(z: jax.Array, n: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    h = ((1 - z) * n + z * h.astype(z.dtype)).astype(h.dtype)
    return h, h


ORIGINAL_GRU = Cell(
    project,
    recur_before,
    update_before,
    zero_state,
    check=params_check(OriginalGRUParams, recurrent_kernel="H 3H", input_kernel="D 3H", bias="3H"),
)


def draw(key: jax.Array, inputs: int, hidden: int, dtype: jnp.dtype) -> GRUParams:
    """Glorot uniform, orthogonal per gate, 0."""
    kernels = draw_kernels(key, inputs, hidden, dtype, 3)
    return GRUParams(*kernels, jnp.zeros(3 * hidden, dtype), jnp.zeros(hidden, dtype))


def draw_original(key: jax.Array, inputs: int, hidden: int, dtype: jnp.dtype) -> OriginalGRUParams:
    """The same."""
    return OriginalGRUParams(*draw_kernels(key, inputs, hidden, dtype, 3), jnp.zeros(3 * hidden, dtype))
