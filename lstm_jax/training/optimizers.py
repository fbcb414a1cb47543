"""What Optax does not have: a learning rate that follows progress, weight decay by name, NT-ASGD."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lstm_jax._core.structs import PyTree


def schedule_by_progress(schedule: Callable[[jax.Array], Any]) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by ``-schedule(progress)``, progress from 0 to 1 over the steps or minutes of ``fit``.

    The last link of a chain: ``optax.chain(optax.scale_by_adam(), schedule_by_progress(warmup_cosine(4e-3)))``.
    """

    def update(
        updates: PyTree, state: Any, params: Any = None, *, progress: Any = None, **extra: Any
    ) -> tuple[PyTree, Any]:
        if progress is None:
            raise ValueError("progress: got none, want a share from 0 to 1: fit hands it on, else step(..., progress=)")
        rate = schedule(jnp.asarray(progress, jnp.float32))
        return jax.tree.map(lambda leaf: leaf * jnp.asarray(-rate, leaf.dtype), updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def warmup_cosine(peak: float, warmup: float = 0.0) -> Callable[[jax.Array], jax.Array]:
    """A learning rate that rises linearly over the share ``warmup`` of a run and falls to 0 along half a cosine."""

    def schedule(progress: jax.Array) -> jax.Array:
        falling = peak * 0.5 * (1 + jnp.cos(jnp.pi * (progress - warmup) / (1 - warmup)))
        return jnp.where(progress < warmup, peak * progress / max(warmup, 1e-9), falling)

    return schedule


def adam(
    peak: float, *, warmup: float = 0.02, clip: float = 1.0, weight_decay: float = 0.0, decayed: str = "kernel"
) -> optax.GradientTransformationExtraArgs:
    """What suits most LSTMs: the gradient clipped to a norm, Adam, decay of the weights that are ``named``, and a rate
    that follows ``warmup_cosine`` of the progress."""
    decay = [optax.add_decayed_weights(weight_decay, mask=named(decayed))] if weight_decay else []
    last = schedule_by_progress(warmup_cosine(peak, warmup))
    return optax.chain(optax.clip_by_global_norm(clip), optax.scale_by_adam(), *decay, last)


def named(pattern: str) -> Callable[[PyTree], PyTree]:
    """A mask for Optax: true for the parameters whose path holds the regular expression.

    ``optax.add_decayed_weights(1e-4, mask=named("kernel"))``
    """

    def mask(params: PyTree) -> PyTree:
        def holds(path: Any, _: Any) -> bool:
            return re.search(pattern, jax.tree_util.keystr(path, simple=True, separator=".")) is not None

        chosen = jax.tree_util.tree_map_with_path(holds, params)
        if not any(jax.tree.leaves(chosen)):
            raise ValueError(f"pattern: got {pattern!r}, which no parameter's path holds")
        return chosen

    return mask


class AveragedState(NamedTuple):
    """State of ``nt_asgd``."""

    average: PyTree
    """the parameters themselves until averaging starts"""
    iterates: jax.Array
    """how many are averaged_params"""
    recent: jax.Array
    """``[patience]``: the last validation losses, oldest first"""
    before: jax.Array
    """the best one before these"""


def nt_asgd(patience: int = 5) -> optax.GradientTransformationExtraArgs:
    """Non-monotonically triggered averaging (Merity, Keskar and Socher 2018, arXiv:1708.02182, algorithm 1).

    Updates pass unchanged; once a validation loss is worse than the best of those more than ``patience`` validations
    ago, the iterates from there on are averaged_params. The last link of a chain around SGD; ``averaged_params`` reads
    the average. ``fit`` hands each validation's loss to the step that follows; elsewhere pass ``validation=``, or NaN
    for none.
    """

    def init(params: PyTree) -> AveragedState:
        never = jnp.full(patience, jnp.inf, jnp.float32)
        return AveragedState(params, jnp.asarray(0, jnp.int32), never, jnp.asarray(jnp.inf, jnp.float32))

    def update(
        updates: PyTree, state: AveragedState, params: PyTree = None, *, validation: Any, **extra: Any
    ) -> tuple[PyTree, AveragedState]:
        loss = jnp.asarray(validation, jnp.float32)
        new = jnp.isfinite(loss)
        triggered = (state.iterates > 0) | (new & (loss > state.before))
        recent = jnp.where(new, jnp.concatenate([state.recent[1:], loss[None]]), state.recent)
        before = jnp.where(new, jnp.minimum(state.before, state.recent[0]), state.before)
        iterates = state.iterates + triggered
        share = jnp.where(triggered, 1 / jnp.maximum(iterates, 1), 1.0)
        iterate = optax.apply_updates(params, updates)
        average = jax.tree.map(
            lambda old, now: old + jnp.asarray(share, old.dtype) * (now - old), state.average, iterate
        )
        return updates, AveragedState(average, iterates, recent, before)

    return optax.GradientTransformationExtraArgs(init, update)


def averaged_params(opt_state: PyTree) -> PyTree:
    """The average that ``nt_asgd`` keeps somewhere in an optimiser's state."""
    is_state = lambda node: isinstance(node, AveragedState)  # noqa: E731
    found = [node for node in jax.tree.leaves(opt_state, is_leaf=is_state) if is_state(node)]
    if len(found) != 1:
        raise ValueError(f"opt_state: got {len(found)} states of nt_asgd, want one")
    return found[0].average
