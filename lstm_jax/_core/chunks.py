"""Time cut into chunks: a scan over chunks of steps, each sliced where it lies."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lstm_jax._core import tuning
from lstm_jax._core.structs import PyTree


class Chunks(NamedTuple):
    """Arrays over time, cut into chunks."""

    full: PyTree | None
    """the chunks of full size, ``[num_chunks, chunk_size, ...]``"""
    remainder: PyTree | None
    """the shorter one at the end of time, ``[remaining, ...]``"""


NO_CHUNKS = Chunks(None, None)


def scan_chunks(
    body: Callable, carry: PyTree, inputs: PyTree, max_size: int, reverse: bool, saved: Chunks = NO_CHUNKS
) -> tuple[PyTree, PyTree, Chunks]:
    """Scans over chunks of time: ``lax.scan`` whose body sees ``[chunk_size, ...]`` instead of one step.

    Inputs are sliced in place, since a copy would be linear in time; for the same reason saved values stay in chunks
    for the next call. If the chunk size does not divide the length, a shorter chunk follows at the end of time. A
    length that is a symbol, in an exported program, is one chunk.

    Args:
        body: ``body(carry, inputs [chunk_size, ...], saved) -> (carry, ys [chunk_size, ...], to_save)``.
        carry: the initial carry.
        inputs: arrays ``[T, ...]``.
        max_size: maximum number of steps in a chunk.
        reverse: whether the last chunk comes first; the body itself orders the steps within a chunk.
        saved: the third result of an earlier call with the same inputs and ``max_size``, passed to the body.
    Returns:
        (carry, ys ``[T, ...]``, the ``to_save`` of each chunk).
    """
    length = jax.tree.leaves(inputs)[0].shape[0]
    size = _chunk_size(length, max_size) if tuning.is_concrete(length) else length
    num_chunks = 0 if size == length else length // size

    @partial(jax.checkpoint, prevent_cse=False)
    def full_chunk(carry: PyTree, chunk: tuple[jax.Array, PyTree]) -> tuple[PyTree, tuple]:
        index, saved = chunk
        sliced = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, index * size, size), inputs)
        carry, ys, to_save = body(carry, sliced, saved)
        return carry, (ys, to_save)

    full = remainder = (None, None)
    for part in ("remainder", "full") if reverse else ("full", "remainder"):
        if part == "full" and num_chunks > 0:
            carry, full = lax.scan(full_chunk, carry, (jnp.arange(num_chunks), saved.full), reverse=reverse)
        if part == "remainder" and num_chunks * size != length:
            rest = jax.tree.map(lambda leaf: leaf[num_chunks * size :], inputs)
            carry, *remainder = body(carry, rest, saved.remainder)
    return carry, _join(full[0], remainder[0]), Chunks(full[1], remainder[1])


def _join(full: PyTree | None, remainder: PyTree | None) -> PyTree:
    """Chunks ``[num_chunks, chunk_size, ...]`` and the remainder ``[remaining, ...]`` as ``[T, ...]``."""
    full = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), full)
    if full is None or remainder is None:
        return remainder if full is None else full
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), full, remainder)


def _chunk_size(length: int, max_size: int) -> int:
    """The largest size up to the limit that divides the length, or the limit if that is less than half of it."""
    max_size = min(length, max_size)
    divisor = max(size for size in range(1, max_size + 1) if length % size == 0)
    return divisor if 2 * divisor >= max_size else max_size
