"""Loss scaling for float16 (Micikevicius et al. 2018, arXiv:1710.03740).

The loss is multiplied by a scale before the gradient is taken, so that small gradients do not vanish in float16, and
the gradient is divided by it in float32. A dynamic scale is halved where a gradient overflows, whose update is left
out, and doubled after ``GROWTH_INTERVAL`` steps in which none did.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core.structs import PyTree

INITIAL_SCALE = 2.0**15
MAX_SCALE = 2.0**24
"""Beyond the span of float16, so that a larger scale helps no gradient."""
GROWTH_INTERVAL = 2000
"""Steps without an overflow after which a dynamic scale is doubled."""

LossScaleOption = float | Literal["dynamic"]
"""1.0 for none, a number, or ``"dynamic"``."""


class LossScale(NamedTuple):
    """The scale of the next step."""

    scale: jax.Array | np.float32
    """float32 scalar"""
    good_steps: jax.Array
    """int32 scalar: steps since the scale last changed"""


def init_loss_scale(loss_scale: LossScaleOption) -> LossScale | None:
    """Returns the scale before the first step; None for 1.0, which scales nothing.

    Raises:
        ValueError: it is neither a positive number nor ``"dynamic"``.
    """
    is_number = isinstance(loss_scale, int | float) and loss_scale > 0
    if not is_number and loss_scale != "dynamic":
        raise ValueError(f"loss_scale: got {loss_scale!r}, want a positive number or 'dynamic'")
    if loss_scale == 1:
        return None
    scale = INITIAL_SCALE if loss_scale == "dynamic" else loss_scale
    return LossScale(jnp.asarray(scale, jnp.float32), jnp.asarray(0, jnp.int32))


def scale_loss(loss: jax.Array, loss_scale: LossScale) -> jax.Array:
    """Multiplies a loss by the scale, in float32 or wider.

    Args:
        loss: scalar, of any floating dtype.
        loss_scale: the scale of this step.
    Returns:
        loss: the scaled one.
    """
    wide = jnp.promote_types(loss.dtype, jnp.float32)
    return loss.astype(wide) * loss_scale.scale.astype(wide)


def unscale(gradient: PyTree, loss_scale: LossScale) -> PyTree:
    """Divides a gradient by the scale in float32 or wider, which it stays.

    Args:
        gradient: the gradient of the scaled loss.
        loss_scale: the scale of this step.
    Returns:
        gradient: that of the loss itself; half-precision leaves come out in float32.
    """
    return jax.tree.map(lambda leaf: leaf / loss_scale.scale.astype(leaf.dtype), widen(gradient))


def widen(tree: PyTree) -> PyTree:
    """Casts half-precision leaves to float32 and leaves the others as they are."""

    def cast(leaf: Any) -> Any:
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) if is_float else leaf

    return jax.tree.map(cast, tree)


def overflows(gradient: PyTree, loss_scale: LossScale) -> jax.Array:
    """Returns whether a gradient is not finite while a smaller scale is left to try.

    Args:
        gradient: any tree of arrays.
        loss_scale: the scale of this step; at 1 nothing counts as an overflow.
    Returns:
        overflows: bool scalar.
    """
    finite = jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)])
    return ~jnp.all(finite) & (loss_scale.scale > 1)


def adjust(loss_scale: LossScale, has_overflow: jax.Array) -> LossScale:
    """Halves the scale after an overflow, down to 1, and doubles it after ``GROWTH_INTERVAL`` steps without one.

    Args:
        loss_scale: the scale of this step.
        has_overflow: bool scalar, whether this step's gradient was not finite.
    Returns:
        loss_scale: the scale of the next step.
    """
    good_steps = jnp.where(has_overflow, 0, loss_scale.good_steps + 1)
    grows = good_steps >= GROWTH_INTERVAL
    larger = jnp.where(grows, jnp.minimum(loss_scale.scale * 2, MAX_SCALE), loss_scale.scale)
    scale = jnp.where(has_overflow, jnp.maximum(loss_scale.scale / 2, 1), larger)
    return LossScale(scale, jnp.where(grows, 0, good_steps).astype(jnp.int32))
