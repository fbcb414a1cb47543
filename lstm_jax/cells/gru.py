"""The gated recurrent unit as cuDNN and PyTorch compute it (the reset gate acts after the matrix product).

    r = sigmoid(x W_r + h R_r + b_r)          reset gate
    z = sigmoid(x W_z + h R_z + b_z)          update gate
    n = tanh(x W_n + b_n + r * (h R_n + b_hn))     candidate
    h' = (1 - z) * n + z * h

Source: Cho et al. 2014 (arXiv:1406.1078) for the unit. There the reset gate acts before the product, on h;
the form above is the one that libraries adopted, and it needs ``b_hn`` apart since ``r`` multiplies it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax.cells.dense import add_bias, lay_out, matmul
from lstm_jax.checks import params_check
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
    n = jnp.tanh(a.candidate_input + r * a.candidate_state)
    h = ((1 - z) * n + z * h).astype(h.dtype)
    return h, h


def zero_state(params: GRUParams, batch_shape: tuple[int, ...] = ()) -> jax.Array:
    """``h = 0``: ``[*batch, H]``."""
    return jnp.zeros((*batch_shape, params.recurrent_kernel.shape[0]), params.recurrent_kernel.dtype)


check = params_check(GRUParams, recurrent_kernel="H 3H", input_kernel="D 3H", bias="3H", candidate_bias="H")
GRU = Cell(project, recur, update, zero_state, lay_out, check)
