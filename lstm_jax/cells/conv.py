"""The convolutional LSTM of Shi et al. 2015 (arXiv:1506.04214), in any number of spatial axes, without peepholes.

    a = x * W + h * R + b        * is a convolution with zero padding, so that the map keeps its size
    i, f, g, o, c', h'           as in ``lstm.py``, at each place of the map

Inputs ``[T, *batch, *spatial, D]``, states ``[*batch, *spatial, H]``; lengths, masks and resets have the axes
``*batch``. Keras and Flax compute the same; the peepholes of the paper's equation 3 they leave out as well.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers as jax_init

from lstm_jax._core.checks import make_params_check
from lstm_jax._core.structs import Cell, LSTMState, accumulator_dtype
from lstm_jax.cells import lstm
from lstm_jax.cells.dense import add_bias, matmul
from lstm_jax.initializers import cell_init, forget_bias


class ConvLSTMParams(NamedTuple):
    """Parameters of one layer; ``*kernel_size`` is the size of the kernel along each spatial axis."""

    input_kernel: jax.Array
    """``[*kernel_size, D, 4H]``"""
    recurrent_kernel: jax.Array
    """``[*kernel_size, H, 4H]``"""
    bias: jax.Array
    """``[4H]``"""


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``x [..., *spatial, N]`` with ``kernel [*kernel_size, N, M]`` to ``[..., *spatial, M]``, in the accumulator
    dtype.

    Each place of the map with its neighbors ``[..., *spatial, kernel_size * N]``, in one matrix product. On CPU the
    derivative of XLA's own convolution is slow: value and gradient 2188 against 84 ms with a kernel of 3 x 3 and 5385
    against 198 with 5 x 5, forward 27 against 18 and 68 against 52 ms (T=10 B=8, map 16 x 16, D=16 H=32, two x86
    cores, Zen 4, jax 0.10.2). The neighborhoods of one chunk of time are in memory at once.
    """
    kernel_size = kernel.shape[:-2]
    rows = x.ndim - 1 - len(kernel_size)
    spatial = x.shape[rows:-1]
    margins = [((size - 1) // 2, size // 2) for size in kernel_size]
    padded = jnp.pad(x, [(0, 0)] * rows + margins + [(0, 0)])
    shifted = [
        padded[(..., *(slice(start, start + size) for start, size in zip(offset, spatial, strict=True)), slice(None))]
        for offset in np.ndindex(*kernel_size)
    ]
    return matmul(jnp.concatenate(shifted, axis=-1), kernel.reshape(-1, kernel.shape[-1]))


def project(params: ConvLSTMParams, x: jax.Array) -> jax.Array:
    """``x * W``."""
    return convolve(x, params.input_kernel)


def recur(params: ConvLSTMParams, z: jax.Array, state: LSTMState) -> jax.Array:
    """``x * W + h * R + b``, ``[..., *spatial, 4H]``."""
    return add_bias(z + convolve(state.h, params.recurrent_kernel), params.bias)


def zero_state(params: ConvLSTMParams, batch_shape: tuple[int, ...] = ()) -> LSTMState:
    """``h = c = 0``; the shape holds the spatial axes too: ``[*batch, *spatial, H]``."""
    kernel = params.recurrent_kernel
    shape = (*batch_shape, kernel.shape[-2])
    return LSTMState(jnp.zeros(shape, kernel.dtype), jnp.zeros(shape, accumulator_dtype(kernel.dtype)))


@cache
def conv_lstm(num_spatial_dims: int) -> Cell:
    """Makes the convolutional LSTM for maps with this many spatial axes, 1 to 3.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> cell = lj.cells.conv_lstm(2)
        >>> params = cell.init(jax.random.key(0), input_size=1, hidden_size=4, kernel_size=(5, 5))
        >>> state, ys = lj.unroll(cell, params, jnp.ones((3, 2, 8, 8, 1)))  # 2 films of 3 frames of 8 x 8
        >>> ys.shape
        (3, 2, 8, 8, 4)
    """

    @cell_init
    def init(
        key: jax.Array,
        input_size: int,
        hidden_size: int,
        dtype: jnp.dtype,
        *,
        kernel_size: tuple[int, ...] = (3,) * num_spatial_dims,
    ) -> ConvLSTMParams:
        """Draws kernels Glorot uniform and forget biases of 1; ``kernel_size`` has a size for each spatial axis."""
        if not isinstance(kernel_size, tuple) or len(kernel_size) != num_spatial_dims:
            raise ValueError(
                f"kernel_size: got {kernel_size!r}, want a tuple of {num_spatial_dims}, a size for each axis"
            )
        input_key, recurrent_key = jax.random.split(key)
        glorot = jax_init.glorot_uniform(in_axis=-2, out_axis=-1)
        return ConvLSTMParams(
            glorot(input_key, (*kernel_size, input_size, 4 * hidden_size), dtype),
            glorot(recurrent_key, (*kernel_size, hidden_size, 4 * hidden_size), dtype),
            forget_bias(hidden_size, dtype),
        )

    axes = " ".join("KLM"[:num_spatial_dims])
    return Cell(
        init=init,
        project=project,
        recur=recur,
        update=lstm.update,
        zero_state=zero_state,
        check=make_params_check(
            ConvLSTMParams, recurrent_kernel=f"{axes} H 4H", input_kernel=f"{axes} D 4H", bias="4H"
        ),
        gates=lstm.gates,
        num_spatial_dims=num_spatial_dims,
    )


CONV_LSTM_1D, CONV_LSTM_2D = conv_lstm(1), conv_lstm(2)
