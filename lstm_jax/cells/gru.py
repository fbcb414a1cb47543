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

from lstm_jax._core.checks import make_params_check
from lstm_jax._core.structs import Cell
from lstm_jax.cells import blocks
from lstm_jax.cells.blocks import GateBlocks
from lstm_jax.cells.dense import add_bias, matmul, prepare_kernel
from lstm_jax.cells.simple import zero_state
from lstm_jax.initializers import cell_init, init_kernels


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
    """The pre-activations of the gates; the candidate's two parts stay apart because ``r`` multiplies one of them."""

    reset: jax.Array
    """``[..., H]``"""
    update: jax.Array
    """``[..., H]``"""
    candidate_input: jax.Array
    """``[..., H]``"""
    candidate_state: jax.Array
    """``[..., H]``"""


project = blocks.make_project(3)


def recur(params: GRUParams, z: GateBlocks, h: jax.Array) -> Preactivations:
    """The pre-activations from ``x W`` and ``h [..., H]``."""
    r, u, n = blocks.add_bias_blocks(z, params.bias)
    r_h, u_h, n_h = blocks.split_blocks(matmul(h, params.recurrent_kernel), 3)
    return Preactivations(r + r_h, u + u_h, n, add_bias(n_h, params.candidate_bias))


def update(params: GRUParams, a: Preactivations, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The new state, which is also the output."""
    gate_values = gates(params, a, h)
    return _interpolate(gate_values["z"], gate_values["n"], h)


def gates(params: GRUParams, a: Preactivations, h: jax.Array) -> dict[str, jax.Array]:
    """``r, z, n``, each ``[..., H]``."""
    r, z = jax.nn.sigmoid(a.reset), jax.nn.sigmoid(a.update)
    return {"r": r, "z": z, "n": jnp.tanh(a.candidate_input + r * a.candidate_state)}


@cell_init
def init(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> GRUParams:
    """Draws kernels Glorot uniform and orthogonal per gate, and biases 0."""
    kernels = init_kernels(key, input_size, hidden_size, dtype, 3)
    return GRUParams(*kernels, jnp.zeros(3 * hidden_size, dtype), jnp.zeros(hidden_size, dtype))


check = make_params_check(GRUParams, recurrent_kernel="H 3H", input_kernel="D 3H", bias="3H", candidate_bias="H")
GRU = Cell(
    init=init,
    project=project,
    recur=recur,
    update=update,
    zero_state=zero_state,
    prepare=prepare_kernel,
    check=check,
    gates=gates,
)


class OriginalGRUParams(NamedTuple):
    """Parameters of one layer in the original convention; blocks of ``H`` in the order r, z, n."""

    input_kernel: jax.Array
    """``[D, 3H]``"""
    recurrent_kernel: jax.Array
    """``[H, 3H]``"""
    bias: jax.Array
    """``[3H]``"""


def recur_before(params: OriginalGRUParams, z: GateBlocks, h: jax.Array) -> GateBlocks:
    """The pre-activations of the update gate and, with the reset gate, of the candidate."""
    width = 2 * h.shape[-1]
    r, u, n = blocks.add_bias_blocks(z, params.bias)
    r_h, u_h = blocks.split_blocks(matmul(h, params.recurrent_kernel[:, :width]), 2)
    r = jax.nn.sigmoid(r + r_h)
    n_h = matmul((r * h.astype(r.dtype)).astype(h.dtype), params.recurrent_kernel[:, width:])
    return u + u_h, n + n_h


def update_before(params: OriginalGRUParams, a: GateBlocks, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The new state, which is also the output."""
    gate_values = gates_before(params, a, h)
    return _interpolate(gate_values["z"], gate_values["n"], h)


def gates_before(params: OriginalGRUParams, a: GateBlocks, h: jax.Array) -> dict[str, jax.Array]:
    """``z, n``, each ``[..., H]``; the reset gate has done its work before the product."""
    z, n = a
    return {"z": jax.nn.sigmoid(z), "n": jnp.tanh(n)}


def _interpolate(z: jax.Array, n: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    h = ((1 - z) * n + z * h.astype(z.dtype)).astype(h.dtype)
    return h, h


@cell_init
def init_original(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> OriginalGRUParams:
    """Draws kernels Glorot uniform and orthogonal per gate, and biases 0."""
    return OriginalGRUParams(*init_kernels(key, input_size, hidden_size, dtype, 3), jnp.zeros(3 * hidden_size, dtype))


ORIGINAL_GRU = Cell(
    init=init_original,
    project=project,
    recur=recur_before,
    update=update_before,
    zero_state=zero_state,
    check=make_params_check(OriginalGRUParams, recurrent_kernel="H 3H", input_kernel="D 3H", bias="3H"),
    gates=gates_before,
)
