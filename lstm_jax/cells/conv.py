"""The convolutional LSTM of Shi et al. 2015 (arXiv:1506.04214), in any number of spatial axes, without peepholes.

    a = x * W + h * R + b        * is a convolution with zero padding, so that the map keeps its size
    i, f, g, o, c', h'           as in ``lstm.py``, at each place of the map

Inputs ``[T, *batch, *space, D]``, states ``[*batch, *space, H]``; lengths, masks and resets have the axes ``*batch``.
Keras and Flax compute the same; the peepholes of the paper's equation 3 they leave out as well.
"""

import math
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import initializers as jax_init

from lstm_jax.cells import lstm
from lstm_jax.cells.dense import add_bias
from lstm_jax.checks import params_check
from lstm_jax.initializers import forget_bias
from lstm_jax.structs import Cell, LSTMState, accumulator_dtype


class ConvLSTMParams(NamedTuple):
    """Parameters of one layer; ``*window`` is the size of the kernel along each spatial axis."""

    input_kernel: jax.Array
    """``[*window, D, 4H]``"""
    recurrent_kernel: jax.Array
    """``[*window, H, 4H]``"""
    bias: jax.Array
    """``[4H]``"""


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``x [..., *space, N]`` with ``kernel [*window, N, M]`` to ``[..., *space, M]``, in the accumulator dtype."""
    space, wide = kernel.ndim - 2, accumulator_dtype(x.dtype)
    maps = x.reshape(math.prod(x.shape[: -space - 1]), *x.shape[-space - 1 :]).astype(wide)
    letters = "XYZ"[:space]
    layout = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    result = lax.conv_general_dilated(maps, kernel.astype(wide), (1,) * space, "SAME", dimension_numbers=layout)
    return result.reshape(*x.shape[:-1], kernel.shape[-1])


def project(params: ConvLSTMParams, x: jax.Array) -> jax.Array:
    """``x * W``."""
    return convolve(x, params.input_kernel)


def recur(params: ConvLSTMParams, z: jax.Array, state: LSTMState) -> jax.Array:
    """``x * W + h * R + b``, ``[..., *space, 4H]``."""
    return add_bias(z + convolve(state.h, params.recurrent_kernel), params.bias)


def zero_state(params: ConvLSTMParams, batch_shape: tuple[int, ...] = ()) -> LSTMState:
    """``h = c = 0``; the shape holds the spatial axes too: ``[*batch, *space, H]``."""
    kernel = params.recurrent_kernel
    shape = (*batch_shape, kernel.shape[-2])
    return LSTMState(jnp.zeros(shape, kernel.dtype), jnp.zeros(shape, accumulator_dtype(kernel.dtype)))


@cache
def conv_lstm(space: int) -> Cell:
    """The cell for maps with this many spatial axes, 1 to 3."""
    window = " ".join("KLM"[:space])
    check = params_check(ConvLSTMParams, recurrent_kernel=f"{window} H 4H", input_kernel=f"{window} D 4H", bias="4H")
    return Cell(project, recur, lstm.update, zero_state, check=check, space=space)


CONV_LSTM_1D, CONV_LSTM_2D = conv_lstm(1), conv_lstm(2)


def draw(
    key: jax.Array, inputs: int, hidden: int, dtype: jnp.dtype, window: tuple[int, ...] = (3, 3)
) -> ConvLSTMParams:
    """Glorot uniform, forget bias 1."""
    input_key, recurrent_key = jax.random.split(key)
    glorot = jax_init.glorot_uniform(in_axis=-2, out_axis=-1)
    return ConvLSTMParams(
        glorot(input_key, (*window, inputs, 4 * hidden), dtype),
        glorot(recurrent_key, (*window, hidden, 4 * hidden), dtype),
        forget_bias(hidden, dtype),
    )
