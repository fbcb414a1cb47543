"""Recurrent batch normalization in training: moments, padding, and its agreement with the cell of evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import sigmoid

import lstm_jax as lj
from lstm_jax import cells

T, B, D, H = 7, 5, 3, 4


@pytest.fixture
def problem():
    params = cells.CELLS["batch_norm"].init(jax.random.key(0), D, H, dtype=jnp.float64, max_steps=T)
    rng = np.random.default_rng(0)
    trained = {"bias", "input_scale", "recurrent_scale", "memory_scale", "memory_bias"}
    shifted = {
        name: jnp.asarray(leaf + rng.normal(size=leaf.shape))
        for name, leaf in jax.tree.map(np.asarray, params)._asdict().items()
        if name in trained
    }
    return params._replace(**shifted), jnp.asarray(rng.normal(size=(T, B, D)))


def test_training_equals_the_paper(problem):
    """The equations in NumPy, all rows at once."""
    params, xs = problem
    p = {name: np.asarray(leaf) for name, leaf in params._asdict().items()}

    def norm(v):
        return (v - v.mean(0)) / np.sqrt(v.var(0) + 1e-5)

    h, c, want = np.zeros((B, H)), np.zeros((B, H)), []
    for x in np.asarray(xs):
        a = p["input_scale"] * norm(x @ p["input_kernel"]) + p["recurrent_scale"] * norm(h @ p["recurrent_kernel"])
        i, f, g, o = np.split(a + p["bias"], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(p["memory_scale"] * norm(c) + p["memory_bias"])
        want.append(h)
    final, ys, statistics = cells.batch_norm_train(params, xs)
    np.testing.assert_allclose(ys, np.array(want), atol=1e-12)
    np.testing.assert_allclose(final.c, c, atol=1e-12)
    np.testing.assert_array_equal(final.step, np.full((B, 1), T))
    np.testing.assert_allclose(statistics["memory"].variance[-1], c.var(0), atol=1e-12)


def test_evaluation_with_a_batch_s_own_moments_equals_its_training(problem):
    params, xs = problem
    final, ys, statistics = cells.batch_norm_train(params, xs)
    stored = cells.update_statistics(params, statistics, momentum=0.0)
    got = lj.unroll(cells.BATCH_NORM_LSTM, stored, xs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), got, (final, ys))


def test_padding_does_not_count(problem):
    """Rows of length 2 and 0: NaN after them reaches nothing, and later moments are those of the other rows."""
    params, xs = problem
    lengths = jnp.array([T, 2, T, 0, T])
    padded = np.where((np.arange(T)[:, None] < np.asarray(lengths))[..., None], xs, np.nan)

    def loss(params, xs):
        final, ys, statistics = cells.batch_norm_train(params, xs, lengths=lengths)
        return jnp.sum(ys**2), (final, ys, statistics)

    gradient, (final, ys, statistics) = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, padded)
    final, ys, statistics = jax.tree.map(np.asarray, (final, ys, statistics))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    np.testing.assert_array_equal(final.h[3], np.zeros(H))
    np.testing.assert_array_equal(final.h[1], ys[1, 1])
    assert not ys[2:, 1].any()
    others = np.asarray(xs)[3, [0, 2, 4]] @ np.asarray(params.input_kernel)
    np.testing.assert_allclose(statistics["input"].mean[3], others.mean(0), atol=1e-12)
    np.testing.assert_allclose(statistics["input"].variance[3], others.var(0), atol=1e-12)


def test_statistics_are_running_means_by_place(problem):
    params, xs = problem
    _, _, statistics = cells.batch_norm_train(params, np.asarray(xs)[:3])
    new = np.asarray(cells.update_statistics(params, statistics, momentum=0.75).memory_variance)
    old = np.asarray(params.memory_variance)
    want = 0.75 * old[:3] + 0.25 * np.asarray(statistics["memory"].variance)
    np.testing.assert_allclose(new[:3], want, rtol=1e-12)
    np.testing.assert_array_equal(new[3:], old[3:])


def test_statistics_get_no_gradient(problem):
    params, xs = problem
    loss = lambda params: jnp.sum(lj.unroll(cells.BATCH_NORM_LSTM, params, xs)[1] ** 2)  # noqa: E731
    for name, leaf in jax.jit(jax.grad(loss))(params)._asdict().items():
        assert bool(np.any(leaf)) != name.endswith(("mean", "variance")), name


def test_wrong_calls_are_named(problem):
    params, xs = problem
    with pytest.raises(ValueError, match=r"xs: got shape \(7, 3\), want \[T, B, D\]"):
        cells.batch_norm_train(params, np.asarray(xs)[:, 0])
    with pytest.raises(ValueError, match="initial_state: got LSTMState, want BatchNormState"):
        cells.batch_norm_train(params, xs, lj.LSTMState(jnp.zeros((B, H)), jnp.zeros((B, H))))
    other = cells.CELLS["batch_norm"].init(jax.random.key(0), D, H + 1, dtype=jnp.float64)
    with pytest.raises(ValueError, match=r"statistics\['input'\].mean: got shape \(7, 16\), want \(7, 20\)"):
        cells.update_statistics(other, cells.batch_norm_train(params, xs)[2])
