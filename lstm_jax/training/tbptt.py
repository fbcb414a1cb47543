"""Truncated back-propagation through time over a long batch, all windows inside one compiled step."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lstm_jax._core.structs import PyTree
from lstm_jax.training.loss import LossFn
from lstm_jax.training.loss_scaling import LossScaleOption
from lstm_jax.training.step import TrainState, TrainStep, make_train_step


def make_tbptt_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    window: int,
    backward: int | None = None,
    *,
    loss_scale: LossScaleOption = 1.0,
) -> TrainStep:
    """Makes ``step(state, batch, **extra)`` over a batch ``[T, ...]``, time first: an update every ``window`` steps.

    Each update reaches ``backward`` steps back (Williams and Peng 1990, BPTT(h; h') with h' = window, h = backward):
    the loss is that of the newest window, and its gradient flows through the windows before it, but not beyond the
    batch. The carry goes on from batch to batch. With both equal to T it is back-propagation through the whole batch.

    Args:
        loss_fn: takes a batch of ``window`` steps; validation gives it a whole batch.
        optimizer: of Optax.
        window: steps between updates; divides T.
        backward: steps that a gradient reaches back, a multiple of ``window``; None means ``window`` itself.
        loss_scale: that of ``make_train_step``.
    Returns:
        step: a ``TrainStep``, also for ``fit``. ``state.step`` counts updates; metrics are added up over the windows.
    Raises:
        ValueError: ``backward`` is no multiple of ``window``; T is none, once the step is called.
    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from lstm_jax import training
        >>> loss_fn = training.stateless(lambda params, xs, key: (jnp.mean((params - xs) ** 2), {}))
        >>> step = training.make_tbptt_step(loss_fn, optax.sgd(0.25), window=2)
        >>> state, _ = step(step.init(jnp.float32(8), jax.random.key(0), None), jnp.zeros((6, 1)))
        >>> int(state.step), float(state.params)  # three updates, each of which halves the parameter
        (3, 1.0)
    """
    backward = window if backward is None else backward
    if window < 1 or backward < window or backward % window:
        raise ValueError(f"backward: got {backward} with window {window}, want a multiple of it")
    depth = backward // window
    window_step = make_train_step(_last_window_loss(loss_fn, depth), optimizer, loss_scale=loss_scale)

    def step(state: TrainState, batch: PyTree, **extra: Any) -> tuple[TrainState, dict[str, Any]]:
        windows = jax.tree.map(partial(_split_windows, window=window), batch)
        count = jax.tree.leaves(windows)[0].shape[0]
        padded = jax.tree.map(lambda leaf: jnp.pad(leaf, [(depth - 1, 0)] + [(0, 0)] * (leaf.ndim - 1)), windows)

        def update(state: TrainState, number: jax.Array) -> tuple[TrainState, dict[str, Any]]:
            newest = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, number, depth), padded)
            is_window = number + jnp.arange(depth, dtype=jnp.int32) >= depth - 1
            return window_step(state, (newest, is_window), **_once(extra, number))

        state, metrics = jax.lax.scan(
            update, state._replace(carry=(state.carry, state.carry)), jnp.arange(count, dtype=jnp.int32)
        )
        return state._replace(carry=state.carry[1]), jax.tree.map(lambda leaf: leaf.sum(0), metrics)

    return TrainStep(step, window_step.init, loss_fn)


def _once(extra: dict[str, Any], number: jax.Array) -> dict[str, Any]:
    """A validation is new to the first window alone, NaN to the others."""
    if "validation" not in extra:
        return extra
    return extra | {"validation": jnp.where(number == 0, extra["validation"], jnp.nan)}


def _last_window_loss(loss_fn: LossFn, depth: int) -> LossFn:
    """The loss of the last of ``depth`` windows, with a gradient through all of them.

    Its carry is a pair: what the first window starts from, which for the next call is the carry after that window, and
    what the last window left.
    """

    def last_loss(params: PyTree, carry: PyTree, batch: PyTree, key: Any) -> tuple[jax.Array, tuple[PyTree, dict]]:
        (windows, is_window), (current, _) = batch, carry
        second = current
        for number in range(depth):
            window = jax.tree.map(lambda leaf, number=number: leaf[number], windows)
            loss, (after, metrics) = loss_fn(params, current, window, jax.random.fold_in(key, number))
            current = jax.tree.map(lambda new, old, n=number: jnp.where(is_window[n], new, old), after, current)
            second = current if number == 0 else second
        return loss, ((second, current), metrics)

    return last_loss


def _split_windows(leaf: jax.Array, window: int) -> jax.Array:
    """``[T, ...]`` to ``[T / window, window, ...]``."""
    if leaf.shape[0] % window:
        raise ValueError(f"batch: got T = {leaf.shape[0]}, want a multiple of the window, {window}")
    return leaf.reshape(-1, window, *leaf.shape[1:])
