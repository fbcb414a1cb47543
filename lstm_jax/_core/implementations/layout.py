"""Arrays as the kernels want them: units before sequences, padded to whole groups and blocks; and back."""

import jax
import jax.numpy as jnp

GROUP_UNITS = 64
"""Units of a group of four warps: the rows of a matrix instruction."""
BLOCK_SEQUENCES = 16
"""Sequences of a block: the columns of a matrix instruction."""
NUM_GATES = 4
NUM_PARTS = {jnp.dtype(jnp.bfloat16): 1, jnp.dtype(jnp.float32): 2}
"""Bfloat16 parts of a factor by the dtype of xs."""


def split_bfloat16(array: jax.Array, num_parts: int) -> list[jax.Array]:
    """Bfloat16 arrays whose sum is the array: to 8 bits in one part, to 16 in two."""
    high = array.astype(jnp.bfloat16)
    return [high] if num_parts == 1 else [high, (array - high.astype(array.dtype)).astype(jnp.bfloat16)]


def by_gate(z: jax.Array, num_gates: int = 4) -> jax.Array:
    """``[T, B, 4H]`` as ``[T, 4, B, H]``, or with another number of gates."""
    return jnp.moveaxis(z.reshape(*z.shape[:-1], num_gates, -1), -2, 1)


def to_kernel_layout(array: jax.Array) -> jax.Array:
    """``[..., B, H]`` as ``[..., H, B]``, both padded with 0 to whole groups and blocks."""
    padded = jnp.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, -array.shape[-1] % GROUP_UNITS)])
    return _pad_sequences(jnp.swapaxes(padded, -1, -2), 0.0)


def from_kernel_layout(array: jax.Array, num_rows: int, hidden_size: int) -> jax.Array:
    """``[..., H, B]`` as ``[..., B, H]``, without the padding."""
    return jnp.swapaxes(array[..., :hidden_size, :num_rows], -1, -2)


def pad_flags(flags: jax.Array) -> jax.Array:
    """Booleans ``[T, B]`` as 1.0 and 0.0, padded with 1.0 to whole blocks of sequences."""
    return _pad_sequences(flags.astype(jnp.float32), 1.0)


def gate_matrices(kernel: jax.Array, *, transpose: bool) -> jax.Array:
    """``[H in, 4 H out]`` as ``[4, H in, H out]``, or as ``[4, H out, H in]``, padded to whole groups."""
    gates = kernel.reshape(len(kernel), 4, -1).transpose((1, 2, 0) if transpose else (1, 0, 2))
    return jnp.pad(gates, [(0, 0), *[(0, -len(kernel) % GROUP_UNITS)] * 2])


def _pad_sequences(array: jax.Array, value: float) -> jax.Array:
    return jnp.pad(
        array, [(0, 0)] * (array.ndim - 1) + [(0, -array.shape[-1] % BLOCK_SEQUENCES)], constant_values=value
    )
