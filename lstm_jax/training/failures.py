"""The guard against numbers that are not finite: it remembers where one came up first."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core.structs import PyTree

NEVER = -1
"""The step of a failure that did not happen."""


class Failure(NamedTuple):
    """The place where a number first was not finite."""

    step: jax.Array
    """int32: the step, or ``NEVER``"""
    leaf: jax.Array
    """int32: the index among the leaves of ``watched``"""


def no_failure() -> Failure:
    """Returns the failure of a run in which every number has been finite."""
    never = jnp.asarray(NEVER, jnp.int32)
    return Failure(never, never)


def watched(batch: PyTree, carry: PyTree, gradient: PyTree, loss: PyTree, params: PyTree) -> dict[str, PyTree]:
    """Names what is searched for the first number that is not finite, in the order of the search."""
    return {"batch": batch, "carry": carry, "gradient": gradient, "loss": loss, "params": params}


def first_failure(failure: Failure, step: jax.Array, parts: dict[str, PyTree]) -> Failure:
    """Returns the failure so far, or that of this step if its loss or parameters are the first not to be finite.

    Args:
        failure: the failure so far.
        step: int32 scalar, the number of this step.
        parts: ``watched(...)`` of this step.
    Returns:
        failure: its ``leaf`` is the first one in ``parts`` that is not finite.
    """
    finite = jnp.stack([_is_finite(leaf) for leaf in jax.tree.leaves(parts)])
    sound = jnp.all(jnp.stack([_is_finite(leaf) for leaf in jax.tree.leaves((parts["loss"], parts["params"]))]))
    fails = ~sound & (failure.step == NEVER)
    here = Failure(step, jnp.argmin(finite).astype(jnp.int32))
    return jax.tree.map(lambda new, old: jnp.where(fails, new, old), here, failure)


def check_finite_state(state: Any, batch: PyTree) -> None:
    """Raises where a training state has met a number that is not finite, for a population where every member has.

    Args:
        state: a ``TrainState``, of a population with an axis for its members in front.
        batch: a batch of the same structure as the one in which it happened.
    Raises:
        FloatingPointError: names the step and the first leaf, and says what to try.
    """
    failure = jax.device_get(state.failure)
    if np.any(failure.step == NEVER):
        return
    step, leaf = int(np.ravel(failure.step)[0]), int(np.ravel(failure.leaf)[0])
    parts = watched(batch, state.carry, state.params, 0.0, state.params)
    path = jax.tree_util.keystr(jax.tree_util.tree_flatten_with_path(parts)[0][leaf][0], simple=True, separator=".")
    raise FloatingPointError(
        f"step {step}: a number is not finite, first in {path}; the state is that before this step. "
        "Try a lower learning rate or optax.clip_by_global_norm, and look for NaN in the data"
    )


def _is_finite(leaf: Any) -> jax.Array:
    leaf = jnp.asarray(leaf)
    return jnp.all(jnp.isfinite(leaf)) if jnp.issubdtype(leaf.dtype, jnp.inexact) else jnp.asarray(True)
