"""One step of training: gradient, optimiser, and a guard that keeps the last finite state.

A loss takes everything and returns everything:

    loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))

``carry`` is what one batch hands to the next, such as the state of an LSTM that reads on; it is not differentiated from
batch to batch. ``key`` is None at evaluation. ``metrics`` is a dict of accumulators, see ``metrics.py``. A loss that
carries nothing is written ``loss(params, batch, key) -> (loss, metrics)`` under the decorator ``stateless``.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lstm_jax._core.structs import PyTree
from lstm_jax.training.metrics import Mean

Loss = Callable[[PyTree, PyTree, PyTree, Any], tuple[jax.Array, tuple[PyTree, dict[str, Any]]]]
NEVER = -1


class Failure(NamedTuple):
    """Where a number first was not finite."""

    step: jax.Array
    """the step, or ``NEVER``"""
    leaf: jax.Array
    """index among ``watched``"""


class TrainState(NamedTuple):
    """All that a run needs to go on."""

    params: PyTree
    opt_state: PyTree
    carry: PyTree
    key: jax.Array
    """of the whole run; a step uses ``fold_in(key, step)``"""
    step: jax.Array
    """steps taken"""
    failure: Failure


def stateless(loss: Callable[[PyTree, PyTree, Any], tuple[jax.Array, dict[str, Any]]]) -> Loss:
    """``loss(params, batch, key) -> (loss, metrics)`` as a loss that carries nothing."""

    @wraps(loss)
    def carrying(params: PyTree, carry: PyTree, batch: PyTree, key: Any) -> tuple[jax.Array, tuple[PyTree, dict]]:
        returned = loss(params, batch, key)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise ValueError(f"loss: got {type(returned).__name__}, want (loss, metrics), metrics {{}} for none")
        return returned[0], (carry, returned[1])

    return carrying


def init_state(
    params: PyTree, optimizer: optax.GradientTransformation, key: jax.Array, carry: PyTree = None
) -> TrainState:
    """The state before the first step."""
    never = jnp.asarray(NEVER, jnp.int32)
    return TrainState(params, optimizer.init(params), carry, key, jnp.asarray(0, jnp.int32), Failure(never, never))


def make_train_step(
    loss_fn: Loss, optimizer: optax.GradientTransformation, *, loss_scale: float = 1.0
) -> Callable[..., tuple[TrainState, dict[str, Any]]]:
    """A pure function ``step(state, batch, **extra) -> (state, metrics)``, ready for ``jit``, ``scan``, ``vmap``.

    Clipping, schedules, accumulation, weight decay and the like are Optax's: chain them. What is ``extra`` goes on to
    the optimiser, for ``schedule_by_progress`` and ``nt_asgd``. If the loss or a new parameter is not finite the state
    stays as it was, from then on, and ``state.failure`` says where; ``describe`` puts it in words.

    Args:
        loss_scale: multiplies the loss before the gradient is taken and divides it afterwards, so that float16
            gradients do not vanish: 2.0**12, say, with ``optax.apply_if_finite`` around the optimiser to skip what
            overflows.
    Returns:
        step: its metrics are the loss function's, with ``loss`` if it has none of that name, and ``gradient_norm``.
    """
    optimizer = optax.with_extra_args_support(optimizer)
    check_loss(loss_fn)

    def scaled(params: PyTree, carry: PyTree, batch: PyTree, key: jax.Array) -> tuple[jax.Array, tuple]:
        returned = loss_fn(params, carry, batch, key)
        check_returned(returned, carry)
        loss, (carry, metrics) = returned
        return loss * loss_scale, (loss, carry, metrics)

    def step(state: TrainState, batch: PyTree, **extra: Any) -> tuple[TrainState, dict[str, Any]]:
        key = jax.random.fold_in(state.key, state.step)
        gradient, (loss, carry, metrics) = jax.grad(scaled, has_aux=True)(state.params, state.carry, batch, key)
        if loss_scale != 1.0:
            gradient = jax.tree.map(lambda leaf: leaf / jnp.asarray(loss_scale, leaf.dtype), gradient)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params, **extra)
        params = optax.apply_updates(state.params, updates)
        failure = _first_failure(state, watched(batch, carry, gradient, loss, params))
        new = TrainState(params, opt_state, carry, state.key, state.step + 1, failure)
        metrics = with_loss(metrics, loss) | {"gradient_norm": _one(optax.tree.norm(gradient))}
        return _keep(failure.step == NEVER, new, state._replace(failure=failure)), metrics

    return step


def check_loss(loss_fn: Loss) -> None:
    """The loss takes four arguments, as far as can be seen."""
    try:
        parameters = inspect.signature(loss_fn, follow_wrapped=False).parameters.values()
    except ValueError:
        return
    needed = [one for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    if len(needed) == 3 and all(one.kind is not one.VAR_POSITIONAL for one in parameters):
        raise ValueError(
            f"loss_fn: takes {', '.join(one.name for one in needed)}, want (params, carry, batch, key); a loss that "
            "carries nothing stands under @training.stateless"
        )


def check_returned(returned: Any, carry: PyTree) -> None:
    """The loss returned what it should."""
    pair = isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], tuple)
    if not pair or len(returned[1]) != 2:
        raise ValueError(
            "loss_fn: want (loss, (carry, metrics)), or (loss, metrics) under @training.stateless, metrics being a "
            f"dict, {{}} for none; got {jax.tree.map(jnp.shape, returned)}"
        )
    after, found = returned[1]
    if not isinstance(found, dict):
        raise ValueError(f"loss_fn: its metrics are {type(found).__name__}, want a dict of accumulators, {{}} for none")
    for name, accumulator in found.items():
        if not hasattr(accumulator, "value"):
            raise ValueError(f"loss_fn: metrics[{name!r}] is no accumulator; wrap numbers in metrics.mean(...)")
    got, left = str(jax.tree.structure(carry)), str(jax.tree.structure(after))
    if got != left:
        raise ValueError(
            f"carry: got {got}, but the loss returns {left}; give fit or init_state carry=, what the first batch "
            "starts from, and Validation too"
        )


def with_loss(metrics: dict[str, Any], loss: jax.Array) -> dict[str, Any]:
    """The metrics, with the loss of a batch counting as one if they have no ``loss`` of their own."""
    return {"loss": _one(loss)} | metrics


def watched(batch: PyTree, carry: PyTree, gradient: PyTree, loss: PyTree, params: PyTree) -> dict[str, PyTree]:
    """What is looked through for the first number that is not finite, in this order."""
    return {"batch": batch, "carry": carry, "gradient": gradient, "loss": loss, "params": params}


def describe(failure: Failure, batch: PyTree, carry: PyTree, params: PyTree) -> str:
    """In words: the step and the leaf."""
    leaves = jax.tree_util.tree_flatten_with_path(watched(batch, carry, params, 0.0, params))[0]
    path = jax.tree_util.keystr(leaves[int(failure.leaf)][0], simple=True, separator=".")
    return (
        f"step {int(failure.step)}: a number is not finite, first in {path}; the state is that before this step. "
        "Try a lower learning rate or optax.clip_by_global_norm, and look for NaN in the data"
    )


def _first_failure(state: TrainState, seen: dict[str, PyTree]) -> Failure:
    finite = jnp.stack([_is_finite(leaf) for leaf in jax.tree.leaves(seen)])
    sound = jnp.all(jnp.stack([_is_finite(leaf) for leaf in jax.tree.leaves((seen["loss"], seen["params"]))]))
    fails = ~sound & (state.failure.step == NEVER)
    found = Failure(state.step, jnp.argmin(finite).astype(jnp.int32))
    return jax.tree.map(lambda new, old: jnp.where(fails, new, old), found, state.failure)


def _is_finite(leaf: Any) -> jax.Array:
    leaf = jnp.asarray(leaf)
    return jnp.all(jnp.isfinite(leaf)) if jnp.issubdtype(leaf.dtype, jnp.inexact) else jnp.asarray(True)


def _keep(sound: jax.Array, new: PyTree, old: PyTree) -> PyTree:
    """The new state if it is sound; the failure itself in both."""
    return jax.tree.map(lambda there, elsewhere: jax.lax.select(sound, there, elsewhere), new, old)


def _one(value: jax.Array) -> Mean:
    return Mean(value.astype(jnp.float32), jnp.asarray(1.0, jnp.float32))
