"""Turns lengths, masks, resets and the reading direction into two flags per step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lstm_jax._core.checks import check_flags
from lstm_jax._core.structs import ArrayLike, PyTree


class StepFlags(NamedTuple):
    """Two flags per step, in the order of the inputs; None means that all are set."""

    taken: jax.Array | None
    """bool ``[T, *batch]``: the step is taken; at other steps the state is kept and the output is 0"""
    carried: jax.Array | None
    """bool ``[T, *batch]``: the step is taken and starts from the carried state; other steps start from the reset
    state, because a boundary lies before them, or because their result is discarded and must not be NaN"""


def step_flags(mask: jax.Array | None, resets: jax.Array | None, *, reverse: bool) -> StepFlags:
    """Computes the flags for a run over ``[T, *batch]``, read forward or in reverse.

    With ``segment = cumsum(resets)``, the state passes from one taken step to the next one taken only if both
    lie in one segment. Read forward, the initial state belongs to segment 0, so that a reset before the first
    taken step replaces it; read in reverse, it belongs to the segment of the last taken step.
    """
    if resets is None:
        return StepFlags(mask, mask)
    segment = jnp.cumsum(resets, axis=0, dtype=jnp.int32)
    taken = jnp.ones_like(resets) if mask is None else mask
    if reverse:
        beyond = segment[-1:] + 1
        following = lax.cummin(jnp.where(taken, segment, beyond), axis=0, reverse=True)
        before = jnp.concatenate([following[1:], beyond])
        same = (before == segment) | (before == beyond)
    else:
        preceding = lax.cummax(jnp.where(taken, segment, 0), axis=0)
        before = jnp.concatenate([jnp.zeros_like(segment[:1]), preceding[:-1]])
        same = before == segment
    return StepFlags(mask, taken & same)


def lengths_to_mask(lengths: ArrayLike, steps: int) -> jax.Array:
    """Turns lengths into the mask that is true before each sequence's end.

    Args:
        lengths: integers ``[*batch]``; values outside 0 to ``steps`` are clamped.
        steps: T.
    Returns:
        bool ``[steps, *batch]``.
    Raises:
        ValueError: the arguments are in the wrong order.
    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> lj.lengths_to_mask(jnp.array([2, 0]), 3).astype(int).tolist()
        [[1, 0], [1, 0], [0, 0]]
    """
    if isinstance(steps, jax.Array | np.ndarray | tuple | list):
        raise ValueError(f"steps: got {steps!r}, want the number of steps T; lengths come first")
    lengths = _within(lengths, steps)
    return jnp.arange(steps, dtype=jnp.int32).reshape(steps, *(1,) * lengths.ndim) < lengths[None]


def _within(lengths: ArrayLike, steps: int) -> jax.Array:
    """Clips lengths to ``0..steps`` as int32, in a dtype that holds both bounds, so that none becomes negative."""
    lengths = jnp.asarray(lengths)
    wide = lengths if lengths.dtype.itemsize >= 4 else lengths.astype(jnp.int32)
    return jnp.clip(wide, 0, steps).astype(jnp.int32)


def reading_order(ys: jax.Array, lengths: jax.Array | None) -> jax.Array:
    """Reverses the outputs ``[T, *batch, H]`` of a reversed run to the order of reading; padding stays at the end."""
    time = ys.shape[0]
    if lengths is None:
        return ys[::-1]
    lengths = _within(lengths, time)
    steps = jnp.arange(time, dtype=jnp.int32).reshape(time, *(1,) * (lengths.ndim + 1))
    return jnp.take_along_axis(ys, (lengths[None, ..., None] - 1 - steps) % time, axis=0)


def resets_from_done(done: ArrayLike, first: ArrayLike | None = None) -> jax.Array:
    """Turns episode ends into resets: ``resets[t + 1] = done[t]``, since ``done[t]`` comes back from the action at
    ``t``.

    Args:
        done: bool ``[T, *batch]``, as the environment returned it with the transition at ``t``.
        first: bool ``[*batch]``, whether an episode starts at step 0: ``done[-1]`` of the roll-out before this one.
            None means no, so the initial state is used.
    Returns:
        bool ``[T, *batch]`` for ``resets=`` of ``lstm`` and ``unroll``.
    Raises:
        ValueError: flags that are no booleans, or do not fit each other.
    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> lj.resets_from_done(jnp.array([False, True, False])).tolist()
        [False, False, True]
    """
    done = jnp.asarray(done)
    start = jnp.zeros(done.shape[1:], bool) if first is None else jnp.asarray(first)
    check_flags("done", done, done.shape)
    check_flags("first", start, done.shape[1:])
    return jnp.concatenate([start[None], done])[: done.shape[0]]


def resets_from_segment_ids(segment_ids: ArrayLike) -> jax.Array:
    """Turns the ids of packed sequences into resets: a boundary wherever the id changes; none before step 0.

    Args:
        segment_ids: ``[T, *batch]``, a number for each sequence that is packed into a row.
    Returns:
        bool ``[T, *batch]`` for ``resets=`` of ``lstm`` and ``unroll``.
    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> lj.resets_from_segment_ids(jnp.array([1, 1, 2, 2])).tolist()
        [False, False, True, False]
    """
    segment_ids = jnp.asarray(segment_ids)
    changes = segment_ids[1:] != segment_ids[:-1]
    return jnp.concatenate([jnp.zeros_like(segment_ids[:1], bool), changes])


def select(pred: jax.Array | None, on_true: PyTree, on_false: PyTree) -> PyTree:
    """Selects between two trees: ``on_true`` where the flags ``[..., *batch]`` are set or None, else ``on_false``.

    A None for ``on_false`` is 0. By selection, not multiplication: a NaN on the side that is not selected reaches
    neither the result nor its derivative.
    """
    if pred is None:
        return on_true
    if on_false is None:
        on_false = jax.tree.map(jnp.zeros_like, on_true)

    def where(on_true: jax.Array, on_false: jax.Array) -> jax.Array:
        return jnp.where(pred.reshape(*pred.shape, *(1,) * (on_true.ndim - pred.ndim)), on_true, on_false)

    return jax.tree.map(where, on_true, on_false)
