"""Loss scaling for float16 (Micikevicius et al. 2018, arXiv:1710.03740).

The loss is multiplied by a scale before differentiation, so that small gradients do not underflow in float16, and the
gradient is divided by the scale in float32. If a gradient overflows, its update is skipped and a dynamic scale is
halved. After ``GROWTH_INTERVAL`` steps without overflow a dynamic scale is doubled.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core.structs import PyTree

INITIAL_SCALE = 2.0**15
MAX_SCALE = 2.0**24
"""Upper limit of a dynamic scale; 2**24 lifts the smallest float16 subnormal to 1, so a larger scale has no use."""
GROWTH_INTERVAL = 2000
"""Number of steps without overflow after which a dynamic scale is doubled."""

LossScaleOption = float | Literal["dynamic"]
"""A constant loss scale, where 1.0 means none, or ``"dynamic"``."""


class LossScale(NamedTuple):
    """The loss scale of the next step, and the number of steps since it last changed."""

    scale: jax.Array | np.float32
    """float32 scalar"""
    good_steps: jax.Array
    """int32 scalar: steps since the scale last changed"""


def init_loss_scale(loss_scale: LossScaleOption) -> LossScale | None:
    """Returns the initial loss scale; None for 1.0, which means no scaling.

    Raises:
        ValueError: ``loss_scale`` is neither a positive number nor ``"dynamic"``.
    """
    is_number = isinstance(loss_scale, int | float) and loss_scale > 0
    if not is_number and loss_scale != "dynamic":
        raise ValueError(f"loss_scale: got {loss_scale!r}, want a positive number or 'dynamic'")
    if loss_scale == 1:
        return None
    scale = INITIAL_SCALE if loss_scale == "dynamic" else loss_scale
    return LossScale(jnp.asarray(scale, jnp.float32), jnp.asarray(0, jnp.int32))


def scale_loss(loss: jax.Array, loss_scale: LossScale) -> jax.Array:
    """Multiplies a loss by the loss scale, in float32 or wider.

    Args:
        loss: scalar of any floating dtype.
        loss_scale: the loss scale of this step.
    Returns:
        loss: the scaled loss, float32 or wider.
    """
    dtype = jnp.promote_types(loss.dtype, jnp.float32)
    return loss.astype(dtype) * loss_scale.scale.astype(dtype)


def unscale(gradient: PyTree, loss_scale: LossScale) -> PyTree:
    """Divides a gradient by the loss scale, in float32 or wider.

    Args:
        gradient: the gradient of the scaled loss, a pytree of arrays.
        loss_scale: the loss scale of this step.
    Returns:
        gradient: the gradient of the unscaled loss; half-precision leaves become float32.
    """
    return jax.tree.map(lambda leaf: leaf / loss_scale.scale.astype(leaf.dtype), widen(gradient))


def widen(tree: PyTree) -> PyTree:
    """Casts half-precision leaves to float32 and returns other leaves unchanged."""

    def cast(leaf: Any) -> Any:
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) if is_float else leaf

    return jax.tree.map(cast, tree)


def overflows(gradient: PyTree, loss_scale: LossScale) -> jax.Array:
    """Returns whether a gradient is not finite at a loss scale above 1.

    At a loss scale of 1 a non-finite gradient is a failure rather than an overflow, since no smaller scale is left.

    Args:
        gradient: a pytree of arrays.
        loss_scale: the loss scale of this step.
    Returns:
        overflows: bool scalar.
    """
    leaf_is_finite = jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)])
    return ~jnp.all(leaf_is_finite) & (loss_scale.scale > 1)


def adjust(loss_scale: LossScale, has_overflow: jax.Array) -> LossScale:
    """Halves the loss scale after an overflow, down to 1, and doubles it after ``GROWTH_INTERVAL`` steps without one.

    Args:
        loss_scale: the loss scale of this step.
        has_overflow: bool scalar, whether the gradient of this step overflowed.
    Returns:
        loss_scale: the loss scale of the next step.
    """
    good_steps = jnp.where(has_overflow, 0, loss_scale.good_steps + 1)
    is_doubled = good_steps >= GROWTH_INTERVAL
    scale_without_overflow = jnp.where(is_doubled, jnp.minimum(loss_scale.scale * 2, MAX_SCALE), loss_scale.scale)
    scale = jnp.where(has_overflow, jnp.maximum(loss_scale.scale / 2, 1), scale_without_overflow)
    return LossScale(scale, jnp.where(is_doubled, 0, good_steps).astype(jnp.int32))
