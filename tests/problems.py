"""Random problems for the laws: named shapes, option combinations, and the library called on them."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracle

import lstm_jax as lj

T, B, D, H = 19, 4, 3, 5
"""Longer than two of the ``short_chunks`` and not a multiple, so that chunks and remainder both run."""

REMATS = ("gates", "states", 4)
FLOAT = jnp.float32


class Options(NamedTuple):
    """Which optional arguments are given."""

    steps: str
    """"all", "lengths" or "mask" """
    resets: str
    """"none", "zeros" (no reset_state) or "state" """
    reverse: bool


GRID = [
    Options(*choice)
    for choice in itertools.product(("all", "lengths", "mask"), ("none", "zeros", "state"), (False, True))
]


def tolerance(dtype, steps=T):
    """A sum over ``steps`` of numbers near 1, each rounded a few times.

    In half precision only h and the results are rounded, the sums are float32: twice the last place.
    """
    return (4 * steps if jnp.finfo(dtype).bits > 16 else 2) * float(jnp.finfo(dtype).eps)


def random_problem(seed, options, *, time=T, batch=B, inputs=D, hidden=H):
    """An oracle problem; steps not taken hold NaN. Seeds 0 and 1 hold the extreme lengths."""
    rng = np.random.default_rng(seed)
    weights = oracle.Weights(
        rng.normal(size=(inputs, 4 * hidden)), rng.normal(size=(hidden, 4 * hidden)) * 0.7, rng.normal(size=4 * hidden)
    )
    x, h0, c0 = (rng.normal(size=shape) for shape in ((time, batch, inputs), (batch, hidden), (batch, hidden)))
    h_reset, c_reset = rng.normal(size=(2, batch, hidden)) * (options.resets == "state")
    taken = np.ones((time, batch), bool)
    if options.steps == "lengths":
        lengths = rng.integers(0, time + 1, size=batch)
        lengths[0] = (0, time, 1)[seed % 3]
        taken = np.arange(time)[:, None] < lengths
    if options.steps == "mask":
        taken = rng.random((time, batch)) < 0.6
        taken[:, 0] = (False, True, taken[0, 0])[seed % 3]
    resets = (rng.random((time, batch)) < 0.3) & (options.resets != "none")
    x = np.where(taken[..., None], x, np.nan)
    return oracle.Problem(weights, x, h0, c0, taken, resets, h_reset, c_reset, options.reverse)


def arguments(problem, options, dtype=jnp.float64):
    """The problem as the differentiable arguments (params, xs, initial_state, reset_state)."""
    wide = jnp.float64 if dtype == jnp.float64 else jnp.float32
    params = lj.LSTMParams(*(jnp.asarray(w, dtype) for w in problem.weights))
    initial = lj.LSTMState(jnp.asarray(problem.h0, dtype), jnp.asarray(problem.c0, wide))
    reset = lj.LSTMState(jnp.asarray(problem.h_reset, dtype), jnp.asarray(problem.c_reset, wide))
    return params, jnp.asarray(problem.x, dtype), initial, reset if options.resets == "state" else None


def flags(problem, options):
    """The problem's lengths, mask and resets as keyword arguments."""
    chosen = {}
    if options.steps == "lengths":
        chosen["lengths"] = jnp.asarray(problem.taken.sum(0))
    if options.steps == "mask":
        chosen["mask"] = jnp.asarray(problem.taken)
    if options.resets != "none":
        chosen["resets"] = jnp.asarray(problem.resets)
    return chosen


def call(arguments, flags, options, remat=None):
    """``lstm`` on a problem's arguments."""
    params, xs, initial, reset = arguments
    return lj.lstm(params, xs, initial, reset_state=reset, reverse=options.reverse, remat=remat, **flags)


def cotangents(seed, *, time=T, batch=B, hidden=H):
    """Random weights that turn (final state, ys) into one number: for h, c and ys."""
    rng = np.random.default_rng(1000 + seed)
    return rng.normal(size=(batch, hidden)), rng.normal(size=(batch, hidden)), rng.normal(size=(time, batch, hidden))


def weigh(result, weights):
    """The sum of final h, final c and ys, each weighted."""
    (h, c), ys = result
    return sum(jnp.sum(part.astype(jnp.float64) * weight) for part, weight in zip((h, c, ys), weights, strict=True))


def assert_trees_close(got, want, tolerance):
    """Leaf by leaf, absolute and relative."""
    got_leaves, want_leaves = jax.tree.leaves(got), jax.tree.leaves(want)
    assert len(got_leaves) == len(want_leaves)
    for got_leaf, want_leaf in zip(got_leaves, want_leaves, strict=True):
        np.testing.assert_allclose(
            np.asarray(got_leaf, np.float64), np.asarray(want_leaf, np.float64), rtol=tolerance, atol=tolerance
        )


def shaped(*shape):
    """A float32 array to be, for what only compiles."""
    return jax.ShapeDtypeStruct(shape, FLOAT)
