"""Float32 tanh, vectorized on CPU by a rational approximation."""

import jax
import jax.numpy as jnp
from jax import lax

from lstm_jax._core.tuning import RATIONAL_TANH_MIN_SIZE, is_concrete

CLIP_BOUND = 10.0
"""Inputs are clipped at +-10, where the approximation exceeds 1 by 5e-7; the result is then clipped to exactly 1. With
a smaller bound it would stay below 1, and a saturated gate would lose 0.1 % of the cell state in 8192 steps."""
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
"""Coefficients of P and Q, polynomials in x^2, highest power first; from Eigen's approximation of float32 tanh."""


@jax.custom_jvp
def tanh(x: jax.Array) -> jax.Array:
    """Computes ``tanh(x)``, by ``tanh_rational`` where that is faster.

    That is for float32 arrays on CPU of at least ``RATIONAL_TANH_MIN_SIZE`` elements.
    """
    if x.dtype != jnp.float32 or not is_concrete(x.size) or x.size < RATIONAL_TANH_MIN_SIZE:
        return jnp.tanh(x)
    return lax.platform_dependent(x, cpu=tanh_rational, default=jnp.tanh)


@tanh.defjvp
def _tanh_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = tanh(x)
    return y, dx * (1 - y * y)


def tanh_rational(x: jax.Array) -> jax.Array:
    """Computes ``tanh(x)`` as ``x P(x^2) / Q(x^2)``, which needs no exponential and vectorizes."""
    x = jnp.clip(x, -CLIP_BOUND, CLIP_BOUND)
    x_squared = x * x
    p, q = _evaluate_polynomial(NUMERATOR, x_squared), _evaluate_polynomial(DENOMINATOR, x_squared)
    return jnp.clip(x * p / q, -1, 1)


def _evaluate_polynomial(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    """Evaluates a polynomial by Horner's scheme; ``coefficients`` starts with that of the highest power."""
    value = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
