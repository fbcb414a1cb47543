"""The simple recurrent network of Elman 1990 ("Finding structure in time", Cognitive Science 14).

h' = tanh(x W + h R + b)
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.checks import make_params_check
from lstm_jax._core.structs import Cell
from lstm_jax.cells.dense import add_bias, matmul, prepare_kernel
from lstm_jax.initializers import cell_init, init_kernels


class SimpleParams(NamedTuple):
    """Parameters of one simple recurrent layer."""

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
    """``h = 0``: ``[*batch, H]``; for any cell whose state is ``h`` alone."""
    return jnp.zeros((*batch_shape, params.recurrent_kernel.shape[0]), params.recurrent_kernel.dtype)


@cell_init
def init(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> SimpleParams:
    """Draws a Glorot uniform input kernel and an orthogonal recurrent kernel, with zero bias."""
    return SimpleParams(*init_kernels(key, input_size, hidden_size, dtype, 1), jnp.zeros(hidden_size, dtype))


check = make_params_check(SimpleParams, recurrent_kernel="H H", input_kernel="D H", bias="H")


@cache
def simple_cell(activation: Callable[[jax.Array], jax.Array]) -> Cell:
    """Makes the simple recurrent cell ``h' = activation(x W + h R + b)``.

    With ``jax.nn.relu`` and an identity recurrent kernel it is the IRNN of Le et al. 2015 (arXiv:1504.00941).

    Args:
        activation: an elementwise function.
    Returns:
        the cell; the same one for the same ``activation``.
    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> relu_rnn = lj.cells.simple_cell(jax.nn.relu)
        >>> params = relu_rnn.init(jax.random.key(0), input_size=3, hidden_size=8)
        >>> irnn_params = params._replace(recurrent_kernel=jnp.eye(8))
    """

    def update(params: SimpleParams, a: jax.Array, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        new_h = activation(a).astype(h.dtype)
        return new_h, new_h

    return Cell(
        init=init,
        project=project,
        recur=recur,
        update=update,
        zero_state=zero_state,
        prepare=prepare_kernel,
        check=check,
    )


SIMPLE = simple_cell(jnp.tanh)
