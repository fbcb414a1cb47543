"""Truncated back-propagation through time over a long batch, all windows inside one compiled step."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lstm_jax._core.structs import PyTree
from lstm_jax.training.step import Loss, TrainState, make_train_step


def make_tbptt_step(
    loss_fn: Loss, optimizer: optax.GradientTransformation, window: int, backward: int | None = None, **options: Any
) -> Callable[..., tuple[TrainState, dict[str, Any]]]:
    """``step(state, batch, **extra)`` over a batch ``[T, ...]``, time first: an update every ``window`` steps.

    Each update looks ``backward`` steps back (Williams and Peng 1990, BPTT(h; h') with h' = window, h = backward): the
    loss is that of the newest window, whose gradient flows through the windows before it, but not beyond the batch.
    The carry goes on from batch to batch. With both equal to T it is back-propagation through the whole batch.

    Args:
        loss_fn: takes a batch of ``window`` steps.
        window: divides T.
        backward: a multiple of ``window``; None means ``window`` itself.
        options: of ``make_train_step``.
    """
    backward = window if backward is None else backward
    if window < 1 or backward < window or backward % window:
        raise ValueError(f"backward: got {backward} with window {window}, want a multiple of it")
    depth = backward // window
    step = make_train_step(_looking_back(loss_fn, depth), optimizer, **options)

    def over_batch(state: TrainState, batch: PyTree, **extra: Any) -> tuple[TrainState, dict[str, Any]]:
        pieces = jax.tree.map(partial(_pieces, window=window), batch)
        count = jax.tree.leaves(pieces)[0].shape[0]
        earlier = jax.tree.map(lambda leaf: jnp.pad(leaf, [(depth - 1, 0)] + [(0, 0)] * (leaf.ndim - 1)), pieces)

        def update(state: TrainState, number: jax.Array) -> tuple[TrainState, dict[str, Any]]:
            seen = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, number, depth), earlier)
            return step(state, (seen, number + jnp.arange(depth, dtype=jnp.int32) >= depth - 1), **extra)

        state, metrics = jax.lax.scan(
            update, state._replace(carry=(state.carry, state.carry)), jnp.arange(count, dtype=jnp.int32)
        )
        return state._replace(carry=state.carry[1]), jax.tree.map(lambda leaf: leaf.sum(0), metrics)

    return over_batch


def _looking_back(loss_fn: Loss, depth: int) -> Loss:
    """A loss over several windows that counts the last one alone.

    Its carry is a pair: what the first window starts from, which the next call shall take behind that window, and what
    the last window left.
    """

    def looking(params: PyTree, carry: PyTree, batch: PyTree, key: Any) -> tuple[jax.Array, tuple[PyTree, dict]]:
        (pieces, there), (now, _) = batch, carry
        second = now
        for number in range(depth):
            piece = jax.tree.map(lambda leaf, number=number: leaf[number], pieces)
            loss, (after, metrics) = loss_fn(params, now, piece, jax.random.fold_in(key, number))
            now = jax.tree.map(lambda new, old, n=number: jnp.where(there[n], new, old), after, now)
            second = now if number == 0 else second
        return loss, ((second, now), metrics)

    return looking


def _pieces(leaf: jax.Array, window: int) -> jax.Array:
    """``[T, ...]`` to ``[T / window, window, ...]``."""
    if leaf.shape[0] % window:
        raise ValueError(f"batch: got T = {leaf.shape[0]}, want a multiple of the window, {window}")
    return leaf.reshape(-1, window, *leaf.shape[1:])
