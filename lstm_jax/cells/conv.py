"""The convolutional LSTM of Shi et al. 2015 (arXiv:1506.04214) with 1 to 3 spatial axes, without peepholes.

    a = x * W + h * R + b        * is a convolution with zero padding that keeps the spatial size
    i, f, g, o, c', h'           as in ``lstm.py``, at each spatial position

Inputs are ``[T, *batch, *spatial, D]`` and states ``[*batch, *spatial, H]``; lengths, masks and resets have the axes
``*batch``. As in Keras and Flax, the peepholes of the paper's equation 3 are left out.
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
    """Parameters of one layer; ``*kernel_size`` is the kernel's size along each spatial axis."""

    input_kernel: jax.Array
    """``[*kernel_size, D, 4H]``"""
    recurrent_kernel: jax.Array
    """``[*kernel_size, H, 4H]``"""
    bias: jax.Array
    """``[4H]``"""


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves ``x [..., *spatial, N]`` with ``kernel [*kernel_size, N, M]`` to ``[..., *spatial, M]``.

    The result is in the accumulator dtype, and zero padding keeps the spatial size. Each position is gathered with its
    neighbors, ``[..., *spatial, K * N]`` for K kernel positions, and one matrix product follows. XLA's own convolution
    has a slow derivative on CPU: value and gradient take 2188 ms against 84 ms here with a kernel of 3 x 3, and 5385
    against 198 with 5 x 5; the forward pass 27 against 18 and 68 against 52 ms (T=10 B=8, 16 x 16 positions, D=16
    H=32, two x86 cores, Zen 4, jax 0.10.2). The gathered neighbors of one chunk of time are in memory at once.

    Args:
        x: ``[..., *spatial, N]``.
        kernel: ``[*kernel_size, N, M]``.
    """
    kernel_size = kernel.shape[:-2]
    num_leading_axes = x.ndim - 1 - len(kernel_size)
    spatial = x.shape[num_leading_axes:-1]
    padding = [((size - 1) // 2, size // 2) for size in kernel_size]
    padded = jnp.pad(x, [(0, 0)] * num_leading_axes + padding + [(0, 0)])
    neighbors = [
        padded[(..., *(slice(start, start + size) for start, size in zip(offset, spatial, strict=True)), slice(None))]
        for offset in np.ndindex(*kernel_size)
    ]
    return matmul(jnp.concatenate(neighbors, axis=-1), kernel.reshape(-1, kernel.shape[-1]))


def project(params: ConvLSTMParams, x: jax.Array) -> jax.Array:
    """``x * W``."""
    return convolve(x, params.input_kernel)


def recur(params: ConvLSTMParams, z: jax.Array, state: LSTMState) -> jax.Array:
    """``x * W + h * R + b``, ``[..., *spatial, 4H]``."""
    return add_bias(z + convolve(state.h, params.recurrent_kernel), params.bias)


def zero_state(params: ConvLSTMParams, batch_shape: tuple[int, ...] = ()) -> LSTMState:
    """``h = c = 0``: ``[*batch, *spatial, H]``; ``batch_shape`` includes the spatial axes."""
    kernel = params.recurrent_kernel
    shape = (*batch_shape, kernel.shape[-2])
    return LSTMState(jnp.zeros(shape, kernel.dtype), jnp.zeros(shape, accumulator_dtype(kernel.dtype)))


@cache
def conv_lstm(num_spatial_dims: int) -> Cell:
    """Makes the convolutional LSTM with ``num_spatial_dims`` spatial axes, 1 to 3.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> cell = lj.cells.conv_lstm(2)
        >>> params = cell.init(jax.random.key(0), input_size=1, hidden_size=4, kernel_size=(5, 5))
        >>> state, ys = lj.unroll(cell, params, jnp.ones((3, 2, 8, 8, 1)))  # 2 videos of 3 frames of 8 x 8 pixels
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
        """Draws Glorot uniform kernels, with forget biases of 1; ``kernel_size`` has one entry per spatial axis."""
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
