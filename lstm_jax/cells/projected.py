"""The projected LSTM of Sak, Senior and Beaufays 2014 (arXiv:1402.1128), as PyTorch's ``proj_size``.

    i, f, g, o, c'      as in ``lstm.py``, with r in place of h
    r' = (o * tanh(c')) P

The field ``h`` of the state holds r, ``[*batch, P]``, which the next step and the next layer read.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.checks import check_size, make_params_check
from lstm_jax._core.structs import Cell, LSTMState, accumulator_dtype
from lstm_jax.cells.dense import matmul, prepare_kernel
from lstm_jax.cells.lstm import advance, gates, project, recur
from lstm_jax.initializers import cell_init


class ProjectedLSTMParams(NamedTuple):
    """Parameters of one layer; ``P`` is the projection size."""

    input_kernel: jax.Array
    """``[D, 4H]``"""
    recurrent_kernel: jax.Array
    """``[P, 4H]``"""
    bias: jax.Array
    """``[4H]``"""
    projection: jax.Array
    """``[H, P]``"""


@cell_init
def init(
    key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype, *, projection_size: int
) -> ProjectedLSTMParams:
    """Draws all parameters from U(-1/sqrt(H), 1/sqrt(H)) as PyTorch does; ``bias`` is the sum of its two biases.

    Args:
        projection_size: ``P``, the size of the projection.
    """
    check_size("projection_size", projection_size)
    keys = jax.random.split(key, 5)
    bound = hidden_size**-0.5

    def uniform(key: jax.Array, *shape: int) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return ProjectedLSTMParams(
        uniform(keys[0], input_size, 4 * hidden_size),
        uniform(keys[1], projection_size, 4 * hidden_size),
        uniform(keys[2], 4 * hidden_size) + uniform(keys[3], 4 * hidden_size),
        uniform(keys[4], hidden_size, projection_size),
    )


def update(params: ProjectedLSTMParams, a: jax.Array, state: LSTMState) -> tuple[LSTMState, jax.Array]:
    """``c' = f * c + i * g`` and ``r' = (o * tanh(c')) P``."""
    h, c = advance(a, state)
    r = matmul(h, params.projection).astype(state.h.dtype)
    return LSTMState(r, c), r


def zero_state(params: ProjectedLSTMParams, batch_shape: tuple[int, ...] = ()) -> LSTMState:
    """``h = 0 [*batch, P]`` and ``c = 0 [*batch, H]``."""
    hidden_size, projection_size = params.projection.shape
    dtype = params.projection.dtype
    return LSTMState(
        jnp.zeros((*batch_shape, projection_size), dtype),
        jnp.zeros((*batch_shape, hidden_size), accumulator_dtype(dtype)),
    )


check = make_params_check(
    ProjectedLSTMParams, projection="H P", recurrent_kernel="P 4H", input_kernel="D 4H", bias="4H"
)
PROJECTED_LSTM = Cell(
    init=init,
    project=project,
    recur=recur,
    update=update,
    zero_state=zero_state,
    prepare=partial(prepare_kernel, names=("recurrent_kernel", "projection")),
    check=check,
    gates=gates,
)
