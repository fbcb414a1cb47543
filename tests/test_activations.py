"""The tanh that is written out for large arrays."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lstm_jax._core.tuning import RATIONAL_TANH_MIN_SIZE
from lstm_jax.cells.activations import CLIP_BOUND, tanh, tanh_rational

EPS = float(np.finfo(np.float32).eps)
VALUE = 4 * EPS
"""Relative error of a value: the approximation's own and a handful of roundings."""
DERIVATIVES = 3 * 2 * VALUE
"""Both derivatives, (1 - y^2) and -2 y (1 - y^2), change at most 3 times as much as y; twice for their roundings."""


def test_the_written_out_form_equals_tanh():
    x = np.concatenate([np.linspace(-12, 12, 40001), np.geomspace(1e-30, 1, 2001), [0.0, np.inf, -np.inf]])
    got = jax.jit(tanh_rational)(jnp.asarray(x, jnp.float32))
    want = np.tanh(np.asarray(x, np.float32).astype(np.float64))
    np.testing.assert_allclose(np.asarray(got, np.float64), want, rtol=VALUE, atol=0)


def test_far_out_it_is_exactly_one():
    """Else a gate would never be fully open, and a memory would depend on how many rows stand beside it."""
    x = jnp.append(jnp.linspace(CLIP_BOUND, 100, 10001, dtype=jnp.float32), jnp.inf)
    np.testing.assert_array_equal(tanh_rational(jnp.concatenate([x, -x])), jnp.repeat(jnp.asarray([1, -1]), x.size))


def test_a_nan_stays_one():
    assert jnp.isnan(tanh_rational(jnp.float32(jnp.nan)))


@pytest.mark.parametrize("size", [RATIONAL_TANH_MIN_SIZE - 1, RATIONAL_TANH_MIN_SIZE])
def test_both_forms_have_the_derivatives_of_tanh(size):
    x = jnp.linspace(-3, 3, size, dtype=jnp.float32)

    def both(function):
        first = lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),))[1]  # noqa: E731
        return first(x), jax.jvp(first, (x,), (jnp.ones_like(x),))[1]

    y = np.tanh(np.asarray(x, np.float64))
    for got, want in zip(both(tanh), (1 - y**2, -2 * y * (1 - y**2)), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=DERIVATIVES)


def test_only_large_float32_arrays_are_written_out():
    """Seen in what XLA compiles, where the choice of platform has been made."""

    def text(size, dtype):
        return jax.jit(tanh).lower(jax.ShapeDtypeStruct((size,), dtype)).compile().as_text()

    assert not re.search(r"tanh\(|conditional\(", text(RATIONAL_TANH_MIN_SIZE, jnp.float32))
    assert "tanh(" in text(RATIONAL_TANH_MIN_SIZE - 1, jnp.float32)
    assert "tanh(" in text(RATIONAL_TANH_MIN_SIZE, jnp.float64)
