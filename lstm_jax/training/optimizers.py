"""Optimizers and schedules beyond Optax: AdamW with warmup-cosine, weight-decay masks by parameter path, NT-ASGD."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lstm_jax._core.structs import PyTree


def schedule_by_progress(schedule: Callable[[jax.Array], Any]) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by ``-schedule(progress)``, where ``progress`` rises from 0 to 1 during the run.

    Place it last in ``optax.chain``. ``fit`` passes ``progress``, the completed fraction of its steps or minutes.

    Args:
        schedule: ``schedule(progress) -> learning_rate``, such as ``warmup_cosine(...)``.
    Returns:
        transformation: a gradient transformation whose ``update`` requires the keyword ``progress``.
    Raises:
        ValueError: ``update`` is called without ``progress``.
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
            raise ValueError(
                "progress: got none, want a fraction from 0 to 1; fit passes it, a custom loop calls "
                "step(state, batch, progress=...)"
            )
        learning_rate = schedule(jnp.asarray(progress, jnp.float32))
        return jax.tree.map(lambda leaf: leaf * jnp.asarray(-learning_rate, leaf.dtype), updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def warmup_cosine(peak: float, warmup: float = 0.0) -> Callable[[jax.Array], jax.Array]:
    """Returns a schedule with linear warmup from 0 to ``peak``, followed by half-cosine decay to 0.

    With p for progress and w for ``warmup``, the learning rate is ``peak * p / w`` while ``p < w``, and
    ``peak * (1 + cos(pi * (p - w) / (1 - w))) / 2`` afterwards.

    Args:
        peak: maximum learning rate.
        warmup: fraction of the run spent in warmup, at least 0 and less than 1.
    Returns:
        schedule: ``schedule(progress) -> learning_rate``, for ``schedule_by_progress``.
    Raises:
        ValueError: ``warmup`` is negative, or 1 or more.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax import training
        >>> schedule = training.warmup_cosine(1.0, warmup=0.5)
        >>> [round(float(schedule(jnp.float32(progress))), 3) for progress in (0.25, 0.5, 0.75)]
        [0.5, 1.0, 0.5]
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup: got {warmup}, want a fraction of the run, at least 0 and less than 1")

    def schedule(progress: jax.Array) -> jax.Array:
        warmup_rate = peak * progress / max(warmup, 1e-9)
        cosine_rate = peak * 0.5 * (1 + jnp.cos(jnp.pi * (progress - warmup) / (1 - warmup)))
        return jnp.where(progress < warmup, warmup_rate, cosine_rate)

    return schedule


def adam(
    peak: float,
    *,
    warmup: float = 0.02,
    clip: float = 1.0,
    weight_decay: float = 0.0,
    decayed: str | Sequence[str] = "kernel",
) -> optax.GradientTransformationExtraArgs:
    """Returns AdamW with gradient clipping and a warmup-cosine learning-rate schedule.

    Weight decay is decoupled (Loshchilov and Hutter 2019) and 0 by default, which is plain Adam.

    Args:
        peak: maximum learning rate.
        warmup: fraction of the run spent in warmup, at least 0 and less than 1; see ``warmup_cosine``.
        clip: maximum global norm of the gradient; larger gradients are scaled down to it.
        weight_decay: coefficient of the decoupled weight decay, multiplied by the learning rate; 0 means no decay.
        decayed: one or more regular expressions for the paths of the parameters that decay; see ``named``.
    Returns:
        optimizer: a gradient transformation whose ``update`` requires the keyword ``progress``, which ``fit`` passes.
    Raises:
        ValueError: ``warmup`` is negative, or 1 or more; or ``init`` is called with parameters of which a pattern of
            ``decayed`` matches none, while ``weight_decay`` is not 0.
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
    scale_by_schedule = schedule_by_progress(warmup_cosine(peak, warmup))
    return optax.chain(optax.clip_by_global_norm(clip), optax.scale_by_adam(), *decay, scale_by_schedule)


def named(*patterns: str) -> Callable[[PyTree], PyTree]:
    """Returns an Optax mask that is True for each parameter whose path matches a regular expression.

    Args:
        patterns: regular expressions, searched for anywhere in a path such as ``"lstm.recurrent_kernel"``. Each
            pattern, and each alternative of a pattern such as ``"kernel|embedding"``, must match some parameter.
    Returns:
        mask: ``mask(params)`` is a tree of booleans with the structure of ``params``.
    Raises:
        ValueError: ``mask`` is called and a pattern matches no parameter; the message lists all paths.
    Example:
        >>> import jax.numpy as jnp, optax
        >>> from lstm_jax import training
        >>> training.named("kernel")({"kernel": jnp.ones(2), "bias": jnp.ones(2)})
        {'bias': False, 'kernel': True}
        >>> decay = optax.add_decayed_weights(1e-4, mask=training.named("kernel"))
    """
    alternatives = [alternative for pattern in patterns for alternative in _split_alternatives(pattern)]

    def mask(params: PyTree) -> PyTree:
        for pattern in alternatives:
            if not matching_paths(pattern, params):
                paths = ", ".join(_list_paths(params)) or "none"
                raise ValueError(f"pattern: got {pattern!r}, which matches no parameter; their paths are: {paths}")
        is_match = lambda path, _: any(re.search(pattern, _format_path(path)) for pattern in alternatives)  # noqa: E731
        return jax.tree_util.tree_map_with_path(is_match, params)

    return mask


def matching_paths(pattern: str, params: PyTree) -> list[str]:
    """Returns the paths of the parameters that a regular expression matches, as ``named`` matches them.

    Args:
        pattern: regular expression, searched for anywhere in a path.
        params: any pytree of parameters.
    Returns:
        paths: such as ``"lstm.recurrent_kernel"``; empty if the pattern matches no parameter.
    Example:
        >>> import jax, lstm_jax as lj
        >>> params = {"lstm": lj.init_params(jax.random.key(0), 2, 3)}
        >>> lj.training.matching_paths("kernel", params)
        ['lstm.input_kernel', 'lstm.recurrent_kernel']
    """
    return [path for path in _list_paths(params) if re.search(pattern, path)]


def _split_alternatives(pattern: str) -> list[str]:
    """Splits a pattern at ``|``; brackets or backslashes keep it whole, as ``|`` may be nested or literal."""
    return [pattern] if set(pattern) & set("()[]\\") else pattern.split("|")


def _list_paths(params: PyTree) -> list[str]:
    return [_format_path(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]


def _format_path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


class AveragedState(NamedTuple):
    """The optimizer state of ``nt_asgd``."""

    average: PyTree
    """mean of the averaged iterates; the current parameters until averaging starts"""
    num_averaged: jax.Array
    """int32: number of iterates in the mean, 0 until averaging starts"""
    recent_losses: jax.Array
    """float32 ``[patience]``: the latest validation losses, oldest first, padded with infinity at the start"""
    best_earlier_loss: jax.Array
    """float32: lowest validation loss before ``recent_losses``; infinity if there was none"""


def nt_asgd(patience: int = 5) -> optax.GradientTransformationExtraArgs:
    """Averages SGD iterates once the validation loss stops improving (non-monotonically triggered averaged SGD).

    Averaging starts at the first validation loss that exceeds the lowest loss from more than ``patience`` validations
    earlier (Algorithm 1 of Merity, Keskar and Socher 2018, arXiv:1708.02182). Updates pass through unchanged;
    ``averaged_params`` reads the average from the optimizer state. Place it last in ``optax.chain``, after SGD.

    ``fit`` passes the result of each validation to the next update. A custom loop passes ``validation=loss`` to the
    update after a validation, and NaN to all others.

    Args:
        patience: number of latest validations excluded from the comparison, at least 1.
    Returns:
        transformation: a gradient transformation whose ``update`` requires the keyword ``validation``.
    Raises:
        ValueError: ``patience`` is below 1, or ``update`` is called without ``validation``.
    Example:
        >>> import optax
        >>> from lstm_jax import training
        >>> optimizer = optax.chain(optax.clip_by_global_norm(0.25), optax.sgd(30.0), training.nt_asgd())
    """
    if patience < 1:
        raise ValueError(f"patience: got {patience}, want at least 1 validation")

    def init(params: PyTree) -> AveragedState:
        no_losses = jnp.full(patience, jnp.inf, jnp.float32)
        return AveragedState(params, jnp.asarray(0, jnp.int32), no_losses, jnp.asarray(jnp.inf, jnp.float32))

    def update(
        updates: PyTree, state: AveragedState, params: PyTree = None, *, validation: Any = None, **extra: Any
    ) -> tuple[PyTree, AveragedState]:
        if validation is None:
            raise ValueError(
                "validation: got none, want the latest validation loss, or NaN if there is no new one; fit passes it, "
                "a custom loop calls step(state, batch, validation=...)"
            )
        loss = jnp.asarray(validation, jnp.float32)
        is_new = jnp.isfinite(loss)
        is_averaging = (state.num_averaged > 0) | (is_new & (loss > state.best_earlier_loss))
        best_earlier_loss = jnp.minimum(state.best_earlier_loss, state.recent_losses[0])
        recent_losses = jnp.concatenate([state.recent_losses[1:], loss[None]])
        num_averaged = state.num_averaged + is_averaging
        weight = jnp.where(is_averaging, 1 / jnp.maximum(num_averaged, 1), 1.0)
        iterate = optax.apply_updates(params, updates)
        average = jax.tree.map(
            lambda old, new: old + jnp.asarray(weight, old.dtype) * (new - old), state.average, iterate
        )
        return updates, AveragedState(
            average,
            num_averaged,
            jnp.where(is_new, recent_losses, state.recent_losses),
            jnp.where(is_new, best_earlier_loss, state.best_earlier_loss),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def averaged_params(opt_state: PyTree) -> PyTree:
    """Returns the parameter average from the ``nt_asgd`` state inside an optimizer state.

    Raises:
        ValueError: the optimizer state holds no ``nt_asgd`` state, or more than one.
    Example:
        >>> import jax.numpy as jnp, optax
        >>> from lstm_jax import training
        >>> optimizer = optax.chain(optax.sgd(0.1), training.nt_asgd())
        >>> training.averaged_params(optimizer.init({"w": jnp.ones(2)}))["w"].tolist()
        [1.0, 1.0]
        >>> validation = training.Validation([], 100, params=lambda state: training.averaged_params(state.opt_state))
    """
    is_averaged_state = lambda node: isinstance(node, AveragedState)  # noqa: E731
    nodes = jax.tree.leaves(opt_state, is_leaf=is_averaged_state)
    averaged_states = [node for node in nodes if is_averaged_state(node)]
    if len(averaged_states) != 1:
        raise ValueError(f"opt_state: got {len(averaged_states)} states of nt_asgd, want one")
    return averaged_states[0].average
