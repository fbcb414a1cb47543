"""The gated recurrent unit, with the reset gate after or before the recurrent matrix product.

``GRU``, as in cuDNN, PyTorch, Keras and Flax, applies the reset gate after the product:

    r = sigmoid(x W_r + h R_r + b_r)          reset gate
    z = sigmoid(x W_z + h R_z + b_z)          update gate
    n = tanh(x W_n + b_n + r * (h R_n + b_hn))     candidate
    h' = (1 - z) * n + z * h

``ORIGINAL_GRU``, as in Cho et al. 2014 (arXiv:1406.1078), applies it to h before the product:

    n = tanh(x W_n + (r * h) R_n + b_n)            with r, z and h' as above

``GRU`` has a separate ``b_hn``, since ``r`` multiplies it; ``ORIGINAL_GRU`` has one bias per gate.
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
    """Parameters of one ``GRU`` layer; gates in the order r, z, n."""

    input_kernel: jax.Array
    """``[D, 3H]``"""
    recurrent_kernel: jax.Array
    """``[H, 3H]``"""
    bias: jax.Array
    """``[3H]``: b_r, b_z, b_n"""
    candidate_bias: jax.Array
    """``[H]``: b_hn, which the reset gate multiplies"""


class Preactivations(NamedTuple):
    """The pre-activations of a ``GRU``; the candidate has two, since ``r`` multiplies only the second."""

    reset: jax.Array
    """``[..., H]``: x W_r + h R_r + b_r"""
    update: jax.Array
    """``[..., H]``: x W_z + h R_z + b_z"""
    candidate_input: jax.Array
    """``[..., H]``: x W_n + b_n"""
    candidate_state: jax.Array
    """``[..., H]``: h R_n + b_hn"""


project = blocks.make_project(3)


def recur(params: GRUParams, z: GateBlocks, h: jax.Array) -> Preactivations:
    """``x W + b`` and ``h R``, added for r and z and separate for n."""
    x_r, x_z, x_n = blocks.add_bias_blocks(z, params.bias)
    h_r, h_z, h_n = blocks.split_blocks(matmul(h, params.recurrent_kernel), 3)
    return Preactivations(x_r + h_r, x_z + h_z, x_n, add_bias(h_n, params.candidate_bias))


def update(params: GRUParams, a: Preactivations, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``h' = (1 - z) * n + z * h``, the new state and the output."""
    gate_values = gates(params, a, h)
    return _interpolate(gate_values["z"], gate_values["n"], h)


def gates(params: GRUParams, a: Preactivations, h: jax.Array) -> dict[str, jax.Array]:
    """``r, z, n``, each ``[..., H]``."""
    r, z = jax.nn.sigmoid(a.reset), jax.nn.sigmoid(a.update)
    return {"r": r, "z": z, "n": jnp.tanh(a.candidate_input + r * a.candidate_state)}


@cell_init
def init(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> GRUParams:
    """Draws Glorot uniform input kernels and orthogonal recurrent kernels per gate, with zero biases."""
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
    """Parameters of one ``ORIGINAL_GRU`` layer; gates in the order r, z, n."""

    input_kernel: jax.Array
    """``[D, 3H]``"""
    recurrent_kernel: jax.Array
    """``[H, 3H]``"""
    bias: jax.Array
    """``[3H]``"""


def original_recur(params: OriginalGRUParams, z: GateBlocks, h: jax.Array) -> GateBlocks:
    """``x W_z + h R_z + b_z`` and ``x W_n + (r * h) R_n + b_n``."""
    gates_width = 2 * h.shape[-1]
    x_r, x_z, x_n = blocks.add_bias_blocks(z, params.bias)
    h_r, h_z = blocks.split_blocks(matmul(h, params.recurrent_kernel[:, :gates_width]), 2)
    r = jax.nn.sigmoid(x_r + h_r)
    h_n = matmul((r * h.astype(r.dtype)).astype(h.dtype), params.recurrent_kernel[:, gates_width:])
    return x_z + h_z, x_n + h_n


def original_update(params: OriginalGRUParams, a: GateBlocks, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``h' = (1 - z) * n + z * h``, the new state and the output."""
    gate_values = original_gates(params, a, h)
    return _interpolate(gate_values["z"], gate_values["n"], h)


def original_gates(params: OriginalGRUParams, a: GateBlocks, h: jax.Array) -> dict[str, jax.Array]:
    """``z, n``, each ``[..., H]``; ``recur`` applied the reset gate already."""
    z, n = a
    return {"z": jax.nn.sigmoid(z), "n": jnp.tanh(n)}


def _interpolate(z: jax.Array, n: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``h' = (1 - z) * n + z * h``, returned as the new state and as the output."""
    new_h = ((1 - z) * n + z * h.astype(z.dtype)).astype(h.dtype)
    return new_h, new_h


@cell_init
def original_init(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> OriginalGRUParams:
    """Draws Glorot uniform input kernels and orthogonal recurrent kernels per gate, with zero biases."""
    return OriginalGRUParams(*init_kernels(key, input_size, hidden_size, dtype, 3), jnp.zeros(3 * hidden_size, dtype))


ORIGINAL_GRU = Cell(
    init=original_init,
    project=project,
    recur=original_recur,
    update=original_update,
    zero_state=zero_state,
    check=make_params_check(OriginalGRUParams, recurrent_kernel="H 3H", input_kernel="D 3H", bias="3H"),
    gates=original_gates,
)
