"""Detection of non-finite values in training, which records where the first one occurred."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core.structs import PyTree

NEVER = -1
"""The ``step`` of a ``Failure`` if every value has been finite."""


class Failure(NamedTuple):
    """The step and the array in which a value was first not finite."""

    step: jax.Array
    """int32 scalar: the step, or ``NEVER``"""
    leaf: jax.Array
    """int32 scalar: index of the array among the leaves of ``name_checked_arrays(...)``"""


def no_failure() -> Failure:
    """Returns the ``Failure`` of a run in which every value has been finite."""
    never = jnp.asarray(NEVER, jnp.int32)
    return Failure(never, never)


def name_checked_arrays(
    batch: PyTree, carry: PyTree, gradient: PyTree, loss: PyTree, params: PyTree
) -> dict[str, PyTree]:
    """Returns the arrays to search for non-finite values, by name and in search order.

    Args:
        batch: of this step.
        carry: before this step.
        gradient: with respect to the parameters.
        loss: a number.
        params: after this step.
    """
    return {"batch": batch, "carry": carry, "gradient": gradient, "loss": loss, "params": params}


def first_failure(failure: Failure, step: jax.Array, parts: dict[str, PyTree]) -> Failure:
    """Records a failure if the loss or a parameter of this step is the first not to be finite.

    Args:
        failure: the failure recorded before this step.
        step: int32 scalar, the number of this step.
        parts: the arrays of this step, from ``name_checked_arrays``.
    Returns:
        failure: the earlier failure, or that of this step, whose ``leaf`` is the first non-finite array in ``parts``.
    """
    is_finite = jnp.stack([_is_finite(leaf) for leaf in jax.tree.leaves(parts)])
    result_leaves = jax.tree.leaves((parts["loss"], parts["params"]))
    result_is_finite = jnp.all(jnp.stack([_is_finite(leaf) for leaf in result_leaves]))
    is_first_failure = ~result_is_finite & (failure.step == NEVER)
    current_failure = Failure(step, jnp.argmin(is_finite).astype(jnp.int32))
    return jax.tree.map(lambda x, y: jnp.where(is_first_failure, x, y), current_failure, failure)


def check_finite_state(state: Any, batch: PyTree) -> None:
    """Raises an error if the training state has a recorded failure; a population fails once all members failed.

    Args:
        state: a ``TrainState``; the arrays of a population have a leading member axis.
        batch: a batch with the structure of the one that failed.
    Raises:
        FloatingPointError: the state has a failure; the message names its step and its first non-finite array.
    """
    failure = jax.device_get(state.failure)
    if np.any(failure.step == NEVER):
        return
    step = int(np.ravel(failure.step)[0])
    leaf_index = int(np.ravel(failure.leaf)[0])
    parts = name_checked_arrays(batch, state.carry, state.params, 0.0, state.params)
    leaves_with_paths = jax.tree_util.tree_flatten_with_path(parts)[0]
    path = jax.tree_util.keystr(leaves_with_paths[leaf_index][0], simple=True, separator=".")
    raise FloatingPointError(
        f"step {step}: a number is not finite, first in {path}; the state before this step is kept. "
        "Try a lower learning rate or optax.clip_by_global_norm, and look for NaN in the data"
    )


def _is_finite(leaf: Any) -> jax.Array:
    leaf = jnp.asarray(leaf)
    return jnp.all(jnp.isfinite(leaf)) if jnp.issubdtype(leaf.dtype, jnp.inexact) else jnp.asarray(True)
