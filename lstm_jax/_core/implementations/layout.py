"""Arrays as the kernels want them: units before sequences, filled up to whole groups and blocks; and back."""

import jax
import jax.numpy as jnp

ROWS = 64
"""Units of a group of four warps: the rows of a matrix instruction."""
COLUMNS = 16
"""Sequences of a block."""
GATES = 4


def split(array: jax.Array, parts: int) -> list[jax.Array]:
    """Bfloat16 arrays whose sum is the array: to 8 bits in one part, to 16 in two."""
    high = array.astype(jnp.bfloat16)
    return [high] if parts == 1 else [high, (array - high.astype(array.dtype)).astype(jnp.bfloat16)]


def by_gate(z: jax.Array, count: int = 4) -> jax.Array:
    """``[T, B, 4H]`` to ``[T, 4, B, H]``, or another count of blocks."""
    return jnp.moveaxis(z.reshape(*z.shape[:-1], count, -1), -2, 1)


def lay_out(array: jax.Array) -> jax.Array:
    """``[..., B, H]`` to ``[..., H, B]``, both filled up with 0 to whole groups and blocks."""
    filled = jnp.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, -array.shape[-1] % ROWS)])
    return columns(jnp.swapaxes(filled, -1, -2), 0.0)


def columns(array: jax.Array, value: float) -> jax.Array:
    """``[..., B]`` filled up to whole blocks of sequences."""
    return jnp.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, -array.shape[-1] % COLUMNS)], constant_values=value)


def from_kernel_layout(array: jax.Array, rows: int, units: int) -> jax.Array:
    """``[..., H, B]`` to ``[..., B, H]``, without what was filled up."""
    return jnp.swapaxes(array[..., :units, :rows], -1, -2)


def square(kernel: jax.Array, *, transpose: bool) -> jax.Array:
    """``[H in, 4 H out]`` to ``[4, H in, H out]``, or ``[4, H out, H in]``, filled up."""
    gates = kernel.reshape(len(kernel), 4, -1).transpose((1, 2, 0) if transpose else (1, 0, 2))
    return jnp.pad(gates, [(0, 0), *[(0, -len(kernel) % ROWS)] * 2])
