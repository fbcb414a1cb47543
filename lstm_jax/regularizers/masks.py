"""Dropout rates and dropout masks, shared by all kinds of dropout."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

Rate = float | jax.Array
"""A probability of dropping, at least 0 and below 1: a Python number or a scalar array, which may be traced."""


def check_rate(name: str, rate: Rate) -> None:
    """Raises a ValueError unless a rate is at least 0 and below 1; traced rates are not checked.

    Args:
        name: the argument name for the error message.
        rate: a number or a scalar array.
    Raises:
        ValueError: if ``rate`` is below 0, or 1 or above.

    Example:
        >>> import lstm_jax as lj
        >>> lj.regularizers.check_rate("dropout_rate", 0.5)
    """
    if not isinstance(rate, jax.core.Tracer) and not 0 <= float(np.asarray(rate)) < 1:  # on the host, under jit too
        raise ValueError(f"{name}: got {rate}, want a rate from 0 to below 1")


def is_zero_rate(rate: Rate) -> bool:
    """Returns whether a rate is the Python number 0, for which no mask is sampled."""
    return isinstance(rate, int | float) and rate == 0


def scaled_mask(key: jax.Array, rate: Rate, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Samples a dropout mask of expectation 1: 0 with probability ``rate``, else ``1 / (1 - rate)``.

    Args:
        key: a JAX random key.
        rate: probability of 0.
        shape: shape of the mask.
        dtype: dtype of the mask.
    Returns:
        The mask; multiply it with the array to drop from.

    Example:
        >>> import jax, lstm_jax as lj
        >>> mask = lj.regularizers.scaled_mask(jax.random.key(0), 0.5, (20,), "float32")
        >>> set(mask.tolist()) == {0.0, 2.0}
        True
    """
    is_kept = jax.random.bernoulli(key, 1 - rate, shape)
    return jnp.where(is_kept, (1 / (1 - jnp.asarray(rate, jnp.float32))).astype(dtype), jnp.zeros((), dtype))


def draw_per_step(
    key: jax.Array, start: int | jax.Array, num_steps: int, draw: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Calls ``draw`` with a separate key for each absolute step, so that segments get the masks of the whole sequence.

    Args:
        key: a JAX random key; step t uses ``fold_in(key, t)``.
        start: the absolute index of the first step.
        num_steps: the number of steps.
        draw: a function ``draw(key) -> array [...]``.
    Returns:
        The arrays of all steps, stacked ``[num_steps, ...]``.
    """
    return jax.vmap(lambda t: draw(jax.random.fold_in(key, t)))(start + jnp.arange(num_steps))
