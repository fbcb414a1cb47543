"""Rates and masks: what every kind of dropout is made of."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

Rate = float | jax.Array
"""A probability of dropping, from 0 to below 1: a Python number, or a scalar array, which may be traced."""


def check_rate(name: str, rate: Rate) -> None:
    """Raises unless a rate is a probability below 1; a traced rate passes, since its value is not known yet.

    Args:
        name: the argument's name, for the message.
        rate: a number or a scalar array.
    Raises:
        ValueError: the rate is below 0, or 1 or above.

    Example:
        >>> import lstm_jax as lj
        >>> lj.regularizers.check_rate("dropout_rate", 0.5)
    """
    if not isinstance(rate, jax.core.Tracer) and not 0 <= float(np.asarray(rate)) < 1:  # on the host, under jit too
        raise ValueError(f"{name}: got {rate}, want a rate from 0 to below 1")


def is_zero_rate(rate: Rate) -> bool:
    """Whether a rate is the Python number 0, for which no mask is compiled."""
    return isinstance(rate, int | float) and rate == 0


def scaled_mask(key: jax.Array, rate: Rate, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Draws a dropout mask whose expectation is 1: 0 with probability ``rate``, else ``1 / (1 - rate)``.

    Args:
        key: a JAX random key.
        rate: the probability of 0.
        shape: of the mask.
        dtype: of the mask.
    Returns:
        the mask, to be multiplied with what is dropped.

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
    """Calls ``draw(key)`` with a key of its own for each absolute step, so that pieces of a sequence have its masks.

    Args:
        key: a JAX random key; step t has ``fold_in(key, t)``.
        start: the absolute step of the first.
        num_steps: the number of steps.
        draw: ``draw(key) -> array [...]``.
    Returns:
        what was drawn ``[num_steps, ...]``.
    """
    return jax.vmap(lambda t: draw(jax.random.fold_in(key, t)))(start + jnp.arange(num_steps))
