"""Truncated backpropagation through time: a training step that scans over the windows of a long batch."""

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
    """Makes a training step for truncated backpropagation through time, with one update every ``window`` time steps.

    ``step(state, batch, **extra)`` takes a batch ``[T, ...]``, time first, and scans over its T / window windows. Each
    update uses the loss of the newest window. Its gradient flows back through the latest ``backward`` time steps, but
    not beyond the start of the batch: BPTT(h; h') of Williams and Peng 1990 with h = backward and h' = window. The
    carry continues from batch to batch. With ``window = backward = T`` it is backpropagation through the whole batch.

    Args:
        loss_fn: ``loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))`` for a batch of ``window`` time
            steps; validation calls it with whole batches.
        optimizer: an Optax optimizer.
        window: time steps between updates; must divide T.
        backward: time steps through which each gradient flows, a multiple of ``window``; None means ``window``.
        loss_scale: loss scale for half precision, as in ``make_train_step``; 1.0 means no scaling.
    Returns:
        step: a ``TrainStep``, which ``fit`` takes in place of a loss. ``state.step`` counts updates, and the metrics
            are summed over the windows.
    Raises:
        ValueError: ``window`` is below 1, or ``backward`` is not a multiple of ``window``; or ``step`` is called with a
            T that is not a multiple of ``window``.
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
        num_windows = jax.tree.leaves(windows)[0].shape[0]
        padded = jax.tree.map(lambda leaf: jnp.pad(leaf, [(depth - 1, 0)] + [(0, 0)] * (leaf.ndim - 1)), windows)

        def update(state: TrainState, index: jax.Array) -> tuple[TrainState, dict[str, Any]]:
            latest_windows = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, index, depth), padded)
            is_window = index + jnp.arange(depth, dtype=jnp.int32) >= depth - 1
            return window_step(state, (latest_windows, is_window), **_pass_validation_once(extra, index))

        state, metrics = jax.lax.scan(
            update, state._replace(carry=(state.carry, state.carry)), jnp.arange(num_windows, dtype=jnp.int32)
        )
        return state._replace(carry=state.carry[1]), jax.tree.map(lambda leaf: leaf.sum(0), metrics)

    return TrainStep(step, window_step.init, loss_fn)


def _pass_validation_once(extra: dict[str, Any], index: jax.Array) -> dict[str, Any]:
    """Passes ``validation`` to the update of the first window only; all later updates get NaN."""
    if "validation" not in extra:
        return extra
    return extra | {"validation": jnp.where(index == 0, extra["validation"], jnp.nan)}


def _last_window_loss(loss_fn: LossFn, depth: int) -> LossFn:
    """Returns the loss of the last of ``depth`` windows, with a gradient through all of them.

    Its carry is a pair. The first entry is the carry into the first window; it becomes the carry after that window,
    from which the next call starts. The second entry is the carry after the last window.
    """

    def last_loss(params: PyTree, carry: PyTree, batch: PyTree, key: Any) -> tuple[jax.Array, tuple[PyTree, dict]]:
        windows, is_window = batch
        current_carry, _ = carry
        for index in range(depth):
            window = jax.tree.map(lambda leaf, index=index: leaf[index], windows)
            loss, (new_carry, metrics) = loss_fn(params, current_carry, window, jax.random.fold_in(key, index))
            select_valid = partial(jnp.where, is_window[index])
            current_carry = jax.tree.map(select_valid, new_carry, current_carry)
            if index == 0:
                carry_after_first = current_carry
        return loss, ((carry_after_first, current_carry), metrics)

    return last_loss


def _split_windows(leaf: jax.Array, window: int) -> jax.Array:
    """Reshapes ``[T, ...]`` to ``[T / window, window, ...]``."""
    if leaf.shape[0] % window:
        raise ValueError(f"batch: got T = {leaf.shape[0]}, want a multiple of the window, {window}")
    return leaf.reshape(-1, window, *leaf.shape[1:])
