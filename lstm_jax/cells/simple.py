"""The simple recurrent network of Elman 1990 ("Finding structure in time", Cognitive Science 14).

h' = tanh(x W + h R + b)
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax.cells.dense import add_bias, lay_out, matmul
from lstm_jax.checks import params_check
from lstm_jax.initializers import draw_kernels
from lstm_jax.structs import Cell


class SimpleParams(NamedTuple):
    """Parameters of one layer."""

    input_kernel: jax.Array
    """``[D, H]``"""
    recurrent_kernel: jax.Array
    """``[H, H]``"""
    bias: jax.Array
    """``[H]``"""


def project(params: SimpleParams, x: jax.Array) -> jax.Array:
    """``x W``: ``[..., D] -> [..., H]``."""
    return matmul(x, params.input_kernel)


def recur(params: SimpleParams, z: jax.Array, h: jax.Array) -> jax.Array:
    """``x W + h R + b``."""
    return add_bias(z + matmul(h, params.recurrent_kernel), params.bias)


def zero_state(params: SimpleParams, batch_shape: tuple[int, ...] = ()) -> jax.Array:
    """``h = 0``: ``[*batch, H]``, for every cell whose state is ``h`` alone."""
    return jnp.zeros((*batch_shape, params.recurrent_kernel.shape[0]), params.recurrent_kernel.dtype)


check = params_check(SimpleParams, recurrent_kernel="H H", input_kernel="D H", bias="H")


@cache
def simple_cell(activation: Callable[[jax.Array], jax.Array]) -> Cell:
    """The cell with another nonlinearity in the place of tanh, for example ``jax.nn.relu`` (Le et al. 2015)."""

    def update(params: SimpleParams, a: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = activation(a).astype(h.dtype)
        return h, h

    return Cell(project, recur, update, zero_state, lay_out, check)


SIMPLE = simple_cell(jnp.tanh)


def draw(key: jax.Array, inputs: int, hidden: int, dtype: jnp.dtype) -> SimpleParams:
    """Glorot uniform, orthogonal, 0."""
    return SimpleParams(*draw_kernels(key, inputs, hidden, dtype, 1), jnp.zeros(hidden, dtype))
