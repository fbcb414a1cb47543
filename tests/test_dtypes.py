"""The dtype rules: gates and memory in float32, products accumulated there, outputs in the inputs' dtype."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from problems import (
    H,
    Options,
    T,
    arguments,
    assert_trees_close,
    call,
    cotangents,
    flags,
    random_problem,
    tolerance,
    weigh,
)

import lstm_jax as lj

pytestmark = pytest.mark.usefixtures("short_chunks")

OPTIONS = Options("mask", "state", False)
HALF = [jnp.bfloat16, jnp.float16]


@pytest.mark.parametrize("remat", ["gates", "states", 4])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, *HALF])
def test_values_and_gradients_in_every_dtype(dtype, remat):
    """Rounded inputs into the oracle, so that only the arithmetic differs; half precision rounds h at each step."""
    problem = random_problem(7, OPTIONS)
    args = arguments(problem, OPTIONS, dtype)
    rounded = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), args)
    exact = problem._replace(
        weights=oracle.Weights(*rounded[0]),
        x=rounded[1],
        h0=rounded[2].h,
        c0=rounded[2].c,
        h_reset=rounded[3].h,
        c_reset=rounded[3].c,
    )
    weights = cotangents(7)
    loss = lambda args: (weigh(result := call(args, flags(problem, OPTIONS), OPTIONS, remat), weights), result)  # noqa: E731
    gradient, (state, ys) = jax.jit(jax.grad(loss, has_aux=True))(args)
    wide = jnp.float64 if dtype == jnp.float64 else jnp.float32
    assert (state.h.dtype, state.c.dtype, ys.dtype) == (dtype, wide, dtype)
    assert all(
        leaf.dtype == arg.dtype for leaf, arg in zip(jax.tree.leaves(gradient), jax.tree.leaves(args), strict=True)
    )
    assert_trees_close((state, ys), (oracle.run(exact)[:2], oracle.run(exact)[2]), tolerance(dtype))
    want = oracle.gradient(exact, *weights)
    wanted = (want.weights, want.x, (want.h0, want.c0), (want.h_reset, want.c_reset))
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
    for got, exact_leaf in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted), strict=True):
        assert np.abs(np.asarray(got, np.float64) - exact_leaf).max() <= scale * tolerance(dtype)


@pytest.mark.parametrize("dtype", HALF)
def test_gates_and_memory_are_float32_inside(dtype):
    """A memory kept in half precision would stand still: here it grows by less than half a unit in the last place."""
    params = jax.tree.map(jnp.zeros_like, lj.init_params(jax.random.key(0), 1, 1, dtype=dtype))
    params = params._replace(bias=jnp.array([0.0, 20.0, 0.002, 20.0], dtype))
    state = lj.zero_state(params)._replace(c=jnp.ones(1, jnp.float32))
    steps = 64
    (_, c), _ = lj.lstm(params, jnp.zeros((steps, 1), dtype), state)
    growth = float(0.5 * jnp.tanh(params.bias[2].astype(jnp.float32)))
    np.testing.assert_allclose(c[0], 1 + steps * growth, rtol=1e-5)


@pytest.mark.parametrize("dtype", HALF)
def test_products_are_summed_in_float32(dtype):
    """1 + 4096 * 2^-12 is 2; summed in half precision the small terms would be lost."""
    inputs = 4097
    params = jax.tree.map(jnp.zeros_like, lj.init_params(jax.random.key(0), inputs, 1, dtype=dtype))
    params = params._replace(input_kernel=params.input_kernel.at[:, 2].set(1), bias=jnp.array([20, 0, 0, 0], dtype))
    x = jnp.full((1, inputs), 2.0**-12, dtype).at[0, 0].set(1)
    (_, c), _ = lj.lstm(params, x)
    np.testing.assert_allclose(c[0], np.tanh(2.0), rtol=1e-6)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_equals_single_to_half_precision(dtype):
    params = lj.init_params(jax.random.key(0), 3, H)
    xs = jax.random.normal(jax.random.key(1), (T, 2, 3), jnp.float32)
    _, single = lj.lstm(params, xs)
    _, half = lj.lstm(*jax.tree.map(lambda leaf: leaf.astype(dtype), (params, xs)))
    np.testing.assert_allclose(half.astype(jnp.float32), single, atol=16 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("remat", ["gates", "states", 4])
@pytest.mark.parametrize("dtype", HALF)
def test_gradients_are_summed_over_many_chunks_in_float32(dtype, remat):
    """Summed in half precision, 1024 segments of bfloat16 lose half of the weight gradient."""
    params = lj.init_params(jax.random.key(0), 4, 8, dtype=dtype)
    rng = np.random.default_rng(1)
    xs = jnp.asarray(rng.normal(size=(4096, 4, 4)).astype(dtype))
    resets = rng.random((4096, 4)) < 0.2
    start = lj.LSTMState(jnp.full(8, 0.5, dtype), jnp.full(8, 0.5, jnp.float32))
    operands = params, xs, start
    in_single = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float32)), operands)
    gradients = [summed_gradient(remat, resets, *operands), summed_gradient(remat, resets, *in_single)]
    for got, want in zip(*map(jax.tree.leaves, gradients), strict=True):
        got, want = np.asarray(got, np.float32), np.asarray(want)
        assert np.abs(got - want).max() / np.abs(want).max() < float(jnp.finfo(dtype).eps)


@partial(jax.jit, static_argnums=0)
def summed_gradient(remat, resets, params, xs, start):
    """The gradient of all outputs' sum, with respect to the parameters and the reset state."""

    def loss(params, start):
        return lj.lstm(params, xs, resets=resets, reset_state=start, remat=remat)[1].astype(jnp.float32).sum()

    return jax.grad(loss, (0, 1))(params, start)
