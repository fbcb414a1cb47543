"""The tanh as a rational function, for large arrays."""

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


def test_the_rational_form_equals_tanh():
    x = np.concatenate([np.linspace(-12, 12, 40001), np.geomspace(1e-30, 1, 2001), [0.0, np.inf, -np.inf]])
    got = jax.jit(tanh_rational)(jnp.asarray(x, jnp.float32))
    want = np.tanh(np.asarray(x, np.float32).astype(np.float64))
    np.testing.assert_allclose(np.asarray(got, np.float64), want, rtol=VALUE, atol=0)


def test_far_out_it_is_exactly_one():
    """Else a gate would never be fully open, and a memory would depend on how many rows stand beside it."""
    x = np.append(np.linspace(CLIP_BOUND, 100, 10001, dtype=np.float32), np.float32(np.inf))
    got = jax.jit(tanh_rational)(np.concatenate([x, -x]))
    np.testing.assert_array_equal(got, np.repeat([1.0, -1.0], x.size))


def test_a_nan_stays_one():
    assert np.isnan(jax.jit(tanh_rational)(np.float32(np.nan)))


@pytest.mark.parametrize("size", [RATIONAL_TANH_MIN_SIZE - 1, RATIONAL_TANH_MIN_SIZE])
def test_both_forms_have_the_derivatives_of_tanh(size):
    x = np.linspace(-3, 3, size, dtype=np.float32)

    @jax.jit
    def first_and_second(x):
        first = lambda x: jax.jvp(tanh, (x,), (jnp.ones_like(x),))[1]  # noqa: E731
        return first(x), jax.jvp(first, (x,), (jnp.ones_like(x),))[1]

    y = np.tanh(np.asarray(x, np.float64))
    for got, want in zip(first_and_second(x), (1 - y**2, -2 * y * (1 - y**2)), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=DERIVATIVES)


def test_only_large_float32_arrays_take_the_rational_form():
    """What XLA compiles shows it, since the platform has been chosen there."""

    def text(size, dtype):
        return jax.jit(tanh).lower(jax.ShapeDtypeStruct((size,), dtype)).compile().as_text()

    assert not re.search(r"tanh\(|conditional\(", text(RATIONAL_TANH_MIN_SIZE, jnp.float32))
    assert "tanh(" in text(RATIONAL_TANH_MIN_SIZE - 1, jnp.float32)
    assert "tanh(" in text(RATIONAL_TANH_MIN_SIZE, jnp.float64)
