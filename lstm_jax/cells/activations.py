"""The hyperbolic tangent that the cells share."""

import jax
import jax.numpy as jnp
from jax import lax

from lstm_jax._core.tuning import RATIONAL_TANH_MIN_SIZE, is_concrete

CLIP_BOUND = 10.0
"""Where inputs are clipped: the approximation passes 1 by 5e-7 there, and the result is clipped to 1. Were it left a
little below 1, no gate would ever open or close fully: a memory held for 8192 steps would lose 0.1 %."""
NUMERATOR = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
DENOMINATOR = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
"""Coefficients in x^2, highest first, of the rational approximation of float32 tanh in Eigen."""


@jax.custom_jvp
def tanh(x: jax.Array) -> jax.Array:
    """``tanh(x)``; of large float32 arrays on CPU by ``tanh_rational``."""
    if x.dtype != jnp.float32 or not is_concrete(x.size) or x.size < RATIONAL_TANH_MIN_SIZE:
        return jnp.tanh(x)
    return lax.platform_dependent(x, cpu=tanh_rational, default=jnp.tanh)


@tanh.defjvp
def _tanh_tangent(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = tanh(x)
    return y, dx * (1 - y * y)


def tanh_rational(x: jax.Array) -> jax.Array:
    """``tanh(x)`` as the rational function ``x P(x^2) / Q(x^2)``, of additions and multiplications alone."""
    x = jnp.clip(x, -CLIP_BOUND, CLIP_BOUND)
    return jnp.clip(x * _polynomial(NUMERATOR, x * x) / _polynomial(DENOMINATOR, x * x), -1, 1)


def _polynomial(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    value = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
