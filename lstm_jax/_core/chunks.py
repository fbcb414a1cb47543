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

    whole: PyTree | None
    """the chunks of full size, ``[count, chunk, ...]``"""
    rest: PyTree | None
    """the shorter one at the end of time, ``[remaining, ...]``"""


NO_CHUNKS = Chunks(None, None)


def scan_chunks(
    body: Callable, carry: PyTree, inputs: PyTree, limit: int, reverse: bool, saved: Chunks = NO_CHUNKS
) -> tuple[PyTree, PyTree, Chunks]:
    """``lax.scan`` over chunks: ``body(carry, inputs [chunk, ...], saved) -> (carry, ys [chunk, ...], to save)``.

    Inputs are sliced where they lie, since a copy would be linear in time; so would one of what is saved, which stays
    in chunks for the next call. What remains when the chunk does not divide the length is a shorter chunk at the end
    of time. A length that is a symbol, in an exported program, is one chunk.
    """
    length = jax.tree.leaves(inputs)[0].shape[0]
    size = _chunk_size(length, limit) if tuning.is_concrete(length) else length
    count = 0 if size == length else length // size

    @partial(jax.checkpoint, prevent_cse=False)
    def chunk(carry: PyTree, place: tuple[jax.Array, PyTree]) -> tuple[PyTree, tuple]:
        index, saved = place
        carry, *outputs = body(
            carry, jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, index * size, size), inputs), saved
        )
        return carry, tuple(outputs)

    whole = rest = (None, None)
    for part in ("rest", "whole") if reverse else ("whole", "rest"):
        if part == "whole" and count > 0:
            carry, whole = lax.scan(chunk, carry, (jnp.arange(count), saved.whole), reverse=reverse)
        if part == "rest" and count * size != length:
            carry, *rest = body(carry, jax.tree.map(lambda leaf: leaf[count * size :], inputs), saved.rest)
    return carry, _join(whole[0], rest[0]), Chunks(whole[1], rest[1])


def _join(whole: PyTree | None, rest: PyTree | None) -> PyTree:
    """Chunks ``[count, chunk, ...]`` and what remains ``[remaining, ...]`` as ``[T, ...]``."""
    whole = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), whole)
    if whole is None or rest is None:
        return rest if whole is None else whole
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), whole, rest)


def _chunk_size(length: int, limit: int) -> int:
    """The largest size up to the limit that divides the length, or the limit if that is less than half of it."""
    limit = min(length, limit)
    even = max(size for size in range(1, limit + 1) if length % size == 0)
    return even if 2 * even >= limit else limit
