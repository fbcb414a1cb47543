"""The associative scan equals the loop, for every option."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import GRID, assert_trees_close
from test_laws import names

import lstm_jax as lj
from lstm_jax.cells import CELLS

T, B, D, H = 21, 4, 3, 5
every_cell = pytest.mark.parametrize("name", ["min_gru", "min_lstm"])


@cache
def params_of(name):
    return CELLS[name].init(jax.random.key(0), D, H, dtype=jnp.float64)


@pytest.mark.parametrize("options", GRID, ids=names)
@every_cell
def test_equals_the_loop_with_every_option(name, options):
    cell, rng = CELLS[name], np.random.default_rng(3)
    params = params_of(name)
    xs, initial, reset = (jnp.asarray(rng.normal(size=shape)) for shape in ((T, B, D), (B, H), (B, H)))
    taken = rng.random((T, B)) < 0.6
    taken[:, 0] = False
    chosen = {"reverse": options.reverse}
    if options.steps == "lengths":
        chosen["lengths"] = jnp.array([0, T, 1, 8])
    if options.steps == "mask":
        chosen["mask"] = jnp.asarray(taken)
    if options.resets != "none":
        chosen["resets"] = jnp.asarray(rng.random((T, B)) < 0.3)
    if options.resets == "state":
        chosen["reset_state"] = reset

    def loss(run):
        def of(params, xs, initial):
            final, ys = run(cell, params, xs, initial, **chosen)
            return jnp.sum(jnp.sin(ys)) + jnp.sum(jnp.cos(final)), (final, ys)

        return jax.jit(jax.value_and_grad(of, (0, 1, 2), has_aux=True))(params, xs, initial)

    assert_trees_close(loss(lj.parallel_unroll), loss(lj.unroll), 1e-12)


@every_cell
def test_a_long_sequence_in_single_precision(name):
    cell, params = CELLS[name], CELLS[name].init(jax.random.key(0), 16, 32)
    xs = jax.random.normal(jax.random.key(1), (4096, 2, 16), jnp.float32)
    for got, want in zip(lj.parallel_unroll(cell, params, xs), lj.unroll(cell, params, xs), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


@every_cell
def test_a_nan_state_does_not_pass_a_reset_nor_padding_the_gradient(name):
    cell, params = CELLS[name], params_of(name)
    xs = np.random.default_rng(1).normal(size=(T, 2, D))
    xs[15:] = np.nan

    def loss(params):
        start, resets = np.full((2, H), np.nan), np.arange(T)[:, None] == np.zeros(2)
        final, ys = lj.parallel_unroll(cell, params, xs, start, lengths=jnp.array([15, 15]), resets=resets)
        return jnp.sum(ys) + jnp.sum(final)

    value_and_gradient = jax.jit(jax.value_and_grad(loss))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(value_and_gradient))


def test_no_steps_and_cells_that_cannot():
    cell, params = CELLS["min_gru"], CELLS["min_gru"].init(jax.random.key(0), D, H)
    final, ys = lj.parallel_unroll(cell, params, jnp.zeros((0, 2, D), jnp.float32))
    assert ys.shape == (0, 2, H)
    assert (final == 0).all()
    with pytest.raises(ValueError, match=r"cell: got one whose gates see the state, want cells\.MIN_GRU"):
        lj.parallel_unroll(lj.cells.LSTM, lj.init_params(jax.random.key(0), D, H), jnp.zeros((3, 2, D), jnp.float32))
