"""Attention over a padded memory, against NumPy row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax import attention

S, B, N, M, A = 7, 3, 4, 5, 6
LENGTHS = np.array([7, 3, 0])
MASK = lj.lengths_to_mask(LENGTHS, S)
RNG = np.random.default_rng(0)
QUERY, MEMORY = jnp.asarray(RNG.normal(size=(B, N))), jnp.asarray(RNG.normal(size=(S, B, M)))
PARAMS = attention.init_additive(jax.random.key(0), N, M, A, dtype=jnp.float64)


def scores(kind, row):
    query, memory = np.asarray(QUERY[row]), np.asarray(MEMORY[:, row])
    if kind == "dot":
        return np.array([np.tile(query, 2)[:M] @ m for m in memory]) / np.sqrt(M)
    q, k, v = map(np.asarray, PARAMS)
    return np.array([v @ np.tanh(query @ q + m @ k) for m in memory])


def run(kind, query, memory, mask):
    if kind == "dot":
        return attention.dot(jnp.tile(query, 2)[..., :M], memory, mask)
    return attention.additive(PARAMS, query, memory, mask)


@pytest.mark.parametrize("kind", ["dot", "additive"])
def test_equals_numpy_row_by_row(kind):
    context, weights = run(kind, QUERY, MEMORY, MASK)
    for row, length in enumerate(LENGTHS):
        e = np.exp(scores(kind, row)[:length])
        want = e / e.sum() if length else e
        np.testing.assert_allclose(weights[:length, row], want, atol=1e-14)
        assert (weights[length:, row] == 0).all()
        np.testing.assert_allclose(context[row], want @ np.asarray(MEMORY[:length, row]), atol=1e-14)


@pytest.mark.parametrize("kind", ["dot", "additive"])
def test_padding_reaches_neither_result_nor_gradient(kind):
    padded = jnp.where(MASK[..., None], MEMORY, jnp.nan)

    def loss(query, memory):
        context, weights = run(kind, query, memory, MASK)
        return jnp.sum(context**2) + jnp.sum(weights**2), context

    (_, got), gradient = jax.value_and_grad(loss, (0, 1), has_aux=True)(QUERY, padded)
    np.testing.assert_array_equal(got, loss(QUERY, MEMORY)[1])
    assert all(jnp.isfinite(leaf).all() for leaf in gradient)


def test_precomputed_keys_change_nothing():
    keys = attention.memory_keys(PARAMS, MEMORY)
    jax.tree.map(
        np.testing.assert_array_equal,
        attention.additive(PARAMS, QUERY, MEMORY, MASK, keys),
        attention.additive(PARAMS, QUERY, MEMORY, MASK),
    )


@pytest.mark.parametrize("kind", ["dot", "additive"])
def test_a_row_without_a_batch_axis_equals_the_row_of_a_batch(kind):
    context, weights = run(kind, QUERY[1], MEMORY[:, 1], MASK[:, 1])
    batched = run(kind, QUERY, MEMORY, MASK)
    np.testing.assert_allclose(context, batched[0][1], atol=1e-15)
    np.testing.assert_allclose(weights, batched[1][:, 1], atol=1e-15)


def test_wrong_calls_are_named():
    with pytest.raises(ValueError, match=r"query: got shape \(3, 4\), want \(3, 5\)"):
        attention.dot(QUERY, MEMORY)
    with pytest.raises(ValueError, match="mask: got dtype int64, want bool"):
        attention.dot(MEMORY[0], MEMORY, MASK.astype(int))
    with pytest.raises(ValueError, match=r"mask: got shape \(3, 7\), want \(7, 3\)"):
        attention.dot(MEMORY[0], MEMORY, MASK.T)
