"""What Optax does not have: a learning rate that follows progress, weight decay by name, NT-ASGD."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lstm_jax._core.structs import PyTree


def schedule_by_progress(schedule: Callable[[jax.Array], Any]) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by ``-schedule(progress)``, progress going from 0 to 1 over the steps or minutes of ``fit``.

    It is the last link of a chain.

    Args:
        schedule: a learning rate by progress, such as ``warmup_cosine(...)``.
    Returns:
        transformation: its update wants ``progress=``, which ``fit`` gives.
    Raises:
        ValueError: the update got no ``progress``.
    Example:
        >>> import jax.numpy as jnp, optax
        >>> from lstm_jax import training
        >>> optimizer = optax.chain(optax.scale_by_adam(), training.schedule_by_progress(training.warmup_cosine(0.5)))
        >>> updates, _ = optimizer.update(jnp.ones(1), optimizer.init(jnp.zeros(1)), progress=0.0)
        >>> round(float(updates[0]), 3)
        -0.5
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
    """Returns a learning rate that rises linearly and then falls to 0 along half a cosine.

    Args:
        peak: the largest rate.
        warmup: the share of the run, from 0 to 1, in which the rate rises.
    Returns:
        schedule: ``schedule(progress) -> rate``, for ``schedule_by_progress``.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax import training
        >>> schedule = training.warmup_cosine(1.0, warmup=0.5)
        >>> [round(float(schedule(jnp.float32(progress))), 3) for progress in (0.25, 0.5, 0.75)]
        [0.5, 1.0, 0.5]
    """

    def schedule(progress: jax.Array) -> jax.Array:
        falling = peak * 0.5 * (1 + jnp.cos(jnp.pi * (progress - warmup) / (1 - warmup)))
        return jnp.where(progress < warmup, peak * progress / max(warmup, 1e-9), falling)

    return schedule


def adam(
    peak: float,
    *,
    warmup: float = 0.02,
    clip: float = 1.0,
    weight_decay: float = 0.0,
    decayed: str | Sequence[str] = "kernel",
) -> optax.GradientTransformationExtraArgs:
    """Returns Adam as suits most LSTMs, with a clipped gradient, weight decay by name and a rate that follows progress.

    Args:
        peak: the largest learning rate.
        warmup: the share of the run in which the rate rises; then it falls to 0 along half a cosine.
        clip: the largest norm of the whole gradient.
        weight_decay: how strongly weights decay; 0 for none.
        decayed: which parameters decay: a regular expression on their paths, or several, see ``named``.
    Returns:
        optimizer: its update wants ``progress=``, which ``fit`` gives.
    Raises:
        ValueError: with weight decay, a pattern of ``decayed`` matches no parameter; it is raised by ``init``.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax import training
        >>> optimizer = training.adam(1e-3, weight_decay=1e-2, decayed=("kernel", "embedding"))
        >>> optimizer.init({"kernel": jnp.ones(2), "bias": jnp.ones(2)})
        Traceback (most recent call last):
        ValueError: pattern: got 'embedding', which matches no parameter; their paths are: bias, kernel
    """
    patterns = (decayed,) if isinstance(decayed, str) else decayed
    decay = [optax.add_decayed_weights(weight_decay, mask=named(*patterns))] if weight_decay else []
    last = schedule_by_progress(warmup_cosine(peak, warmup))
    return optax.chain(optax.clip_by_global_norm(clip), optax.scale_by_adam(), *decay, last)


def named(*patterns: str) -> Callable[[PyTree], PyTree]:
    """Returns a mask for Optax that is true for the parameters whose path contains a regular expression.

    Args:
        patterns: regular expressions. Each of them, and each alternative of ``"kernel|embedding"``, has to match.
    Returns:
        mask: ``mask(params)`` is a tree of booleans; ``matching_paths`` lists what they are true for.
    Raises:
        ValueError: a pattern matches no parameter; the message lists their paths. It is raised by the mask.
    Example:
        >>> import jax.numpy as jnp, optax
        >>> from lstm_jax import training
        >>> training.named("kernel")({"kernel": jnp.ones(2), "bias": jnp.ones(2)})
        {'bias': False, 'kernel': True}
        >>> decay = optax.add_decayed_weights(1e-4, mask=training.named("kernel"))
    """
    alternatives = [part for pattern in patterns for part in _alternatives(pattern)]

    def mask(params: PyTree) -> PyTree:
        for pattern in alternatives:
            if not matching_paths(pattern, params):
                paths = ", ".join(_paths(params)) or "none"
                raise ValueError(f"pattern: got {pattern!r}, which matches no parameter; their paths are: {paths}")
        matches = lambda path, _: any(re.search(pattern, _path(path)) for pattern in alternatives)  # noqa: E731
        return jax.tree_util.tree_map_with_path(matches, params)

    return mask


def matching_paths(pattern: str, params: PyTree) -> list[str]:
    """Returns the paths of the parameters that a pattern of ``named`` matches.

    Args:
        pattern: a regular expression, searched for anywhere in a path.
        params: any tree.
    Returns:
        paths: such as ``"lstm.recurrent_kernel"``; none if nothing matches.
    Example:
        >>> import jax, lstm_jax as lj
        >>> params = {"lstm": lj.init_params(jax.random.key(0), 2, 3)}
        >>> lj.training.matching_paths("kernel", params)
        ['lstm.input_kernel', 'lstm.recurrent_kernel']
    """
    return [path for path in _paths(params) if re.search(pattern, path)]


def _alternatives(pattern: str) -> list[str]:
    """The parts of a pattern between ``|``, where no bracket or backslash may say otherwise."""
    return [pattern] if set(pattern) & set("()[]\\") else pattern.split("|")


def _paths(params: PyTree) -> list[str]:
    return [_path(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


class AveragedState(NamedTuple):
    """The state of ``nt_asgd``."""

    average: PyTree
    """the parameters themselves until averaging starts"""
    iterates: jax.Array
    """how many are averaged"""
    recent: jax.Array
    """``[patience]``: the last validation losses, oldest first"""
    before: jax.Array
    """the best one before those"""


def nt_asgd(patience: int = 5) -> optax.GradientTransformationExtraArgs:
    """Averages iterates, triggered non-monotonically (Merity, Keskar and Socher 2018, arXiv:1708.02182, algorithm 1).

    Updates pass unchanged; once a validation loss is worse than the best of those more than ``patience`` validations
    ago, the iterates from there on are averaged. It is the last link of a chain around SGD; ``averaged_params`` reads
    the average. ``fit`` hands each validation's loss to the step after it; elsewhere pass ``validation=``, or NaN for
    none.

    Args:
        patience: in validations.
    Returns:
        transformation: its update wants ``validation=``.
    Example:
        >>> import optax
        >>> from lstm_jax import training
        >>> optimizer = optax.chain(optax.clip_by_global_norm(0.25), optax.sgd(30.0), training.nt_asgd())
    """

    def init(params: PyTree) -> AveragedState:
        never = jnp.full(patience, jnp.inf, jnp.float32)
        return AveragedState(params, jnp.asarray(0, jnp.int32), never, jnp.asarray(jnp.inf, jnp.float32))

    def update(
        updates: PyTree, state: AveragedState, params: PyTree = None, *, validation: Any, **extra: Any
    ) -> tuple[PyTree, AveragedState]:
        loss = jnp.asarray(validation, jnp.float32)
        is_new = jnp.isfinite(loss)
        triggered = (state.iterates > 0) | (is_new & (loss > state.before))
        recent = jnp.where(is_new, jnp.concatenate([state.recent[1:], loss[None]]), state.recent)
        before = jnp.where(is_new, jnp.minimum(state.before, state.recent[0]), state.before)
        iterates = state.iterates + triggered
        share = jnp.where(triggered, 1 / jnp.maximum(iterates, 1), 1.0)
        iterate = optax.apply_updates(params, updates)
        average = jax.tree.map(
            lambda old, now: old + jnp.asarray(share, old.dtype) * (now - old), state.average, iterate
        )
        return updates, AveragedState(average, iterates, recent, before)

    return optax.GradientTransformationExtraArgs(init, update)


def averaged_params(opt_state: PyTree) -> PyTree:
    """Returns the average that ``nt_asgd`` keeps somewhere in an optimizer's state.

    Raises:
        ValueError: there is no such state in it, or several.
    Example:
        >>> import jax.numpy as jnp, optax
        >>> from lstm_jax import training
        >>> optimizer = optax.chain(optax.sgd(0.1), training.nt_asgd())
        >>> training.averaged_params(optimizer.init({"w": jnp.ones(2)}))["w"].tolist()
        [1.0, 1.0]
        >>> validation = training.Validation([], 100, params=lambda state: training.averaged_params(state.opt_state))
    """
    is_state = lambda node: isinstance(node, AveragedState)  # noqa: E731
    states = [node for node in jax.tree.leaves(opt_state, is_leaf=is_state) if is_state(node)]
    if len(states) != 1:
        raise ValueError(f"opt_state: got {len(states)} states of nt_asgd, want one")
    return states[0].average
