"""What each kind of workload computes, written once for every library: outputs, losses, derivatives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import lstm_jax as lj
from benchmarks.competitors.layer import Layer
from benchmarks.workloads import Workload

MODES = {
    "stepwise": ("forward",),
    "per-example": ("value_and_grad",),
    "hvp": ("value_and_grad",),
    "final": ("value_and_grad",),
}
"""Modes of a kind that does not have both."""


class Problem(NamedTuple):
    """Weights and data of a workload, time first."""

    params: tuple[lj.LSTMParams, ...]
    """one layer's, or both layers' or directions'"""
    xs: jax.Array
    """``[T, B, D]``"""
    target: jax.Array
    """``[T, B, H]``, or 2H if bidirectional"""
    lengths: jax.Array | None
    """uniform in 1 to T, ``[B]``"""
    resets: jax.Array | None
    """one step in twenty, ``[T, B]``"""


def modes(workload: Workload) -> tuple[str, ...]:
    """``"forward"``, ``"value_and_grad"`` with respect to parameters and inputs, or both."""
    return MODES.get(workload.kind, ("forward", "value_and_grad"))


def make_problem(workload: Workload) -> Problem:
    """The same numbers for every library and every run."""
    time, batch, inputs, hidden, kind = workload
    keys = jax.random.split(jax.random.key(0), 6)
    count = 2 if kind in ("two layers", "bidirectional") else 1
    sizes = [inputs, hidden if kind == "two layers" else inputs][:count]
    params = tuple(lj.init_params(key, size, hidden) for key, size in zip(keys, sizes, strict=False))
    width = 2 * hidden if kind == "bidirectional" else hidden
    return Problem(
        params,
        jax.random.normal(keys[2], (time, batch, inputs)),
        jax.random.normal(keys[3], (time, batch, width)),
        jax.random.randint(keys[4], (batch,), 1, time + 1) if kind == "ragged" else None,
        jax.random.bernoulli(keys[5], 0.05, (time, batch)) if kind == "resets" else None,
    )


def build(workload: Workload, mode: str, layer: Layer, problem: Problem) -> tuple[Callable, tuple, Callable]:
    """The function to compile, its arguments, and a map of its result to one comparable between libraries."""
    weights = tuple(layer.pack(params) for params in problem.params)
    axis = 0 if layer.batch_first else 1

    def flip(array: jax.Array) -> jax.Array:
        return jnp.swapaxes(array, 0, 1) if layer.batch_first and array.ndim == 3 else array

    xs, target = flip(problem.xs), flip(problem.target)
    unpack = lambda gradient: tuple(layer.unpack(part) for part in gradient)  # noqa: E731
    if workload.kind == "stepwise":
        state = lj.zero_state(problem.params[0], (workload.B,))
        return layer.cell, (weights[0], state, xs[0]), lambda result: result

    outputs = _outputs(workload.kind, layer, problem)
    if mode == "forward":
        return outputs, (weights, xs), flip

    def loss(weights: Any, xs: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.mean((outputs(weights, xs) - target) ** 2)

    if workload.kind == "per-example":
        each = jax.vmap(jax.grad(loss), (None, axis, axis))
        return each, (weights, xs, target), lambda gradient: jax.vmap(unpack)(gradient)
    if workload.kind == "hvp":
        direction = jax.tree.map(jnp.ones_like, weights)
        product = lambda weights, xs, target: jax.jvp(  # noqa: E731
            lambda weights: jax.grad(loss)(weights, xs, target), (weights,), (direction,)
        )[1]
        return product, (weights, xs, target), unpack
    if workload.kind == "final":
        last = layer.last or (lambda weights, xs: flip(layer.sequence(weights, xs))[-1])
        final = lambda weights, xs: jnp.sum(last(weights[0], xs))  # noqa: E731
        return jax.value_and_grad(final), (weights, xs), lambda result: (result[0], unpack(result[1]))
    step = jax.value_and_grad(loss, (0, 1))
    return step, (weights, xs, target), lambda result: (result[0], unpack(result[1][0]), flip(result[1][1]))


def _outputs(kind: str, layer: Layer, problem: Problem) -> Callable[[tuple, jax.Array], jax.Array]:
    """``outputs(weights, xs) -> ys`` of a workload's kind; at steps beyond a sequence's length they are 0."""
    lengths, resets = problem.lengths, problem.resets
    taken = None
    if lengths is not None:
        taken = jnp.arange(problem.xs.shape[0])[:, None] < lengths
        taken = (taken.T if layer.batch_first else taken)[..., None]

    def outputs(weights: tuple, xs: jax.Array) -> jax.Array:
        ys = layer.sequence(weights[0], xs, lengths=lengths, resets=resets)
        if kind == "two layers":
            ys = layer.sequence(weights[1], ys)
        if kind == "bidirectional":
            ys = jnp.concatenate([ys, layer.sequence(weights[1], xs, reverse=True)], axis=-1)
        return ys if taken is None else jnp.where(taken, ys, 0)

    return outputs


def nominal_flops(workload: Workload, mode: str) -> float:
    """Multiplications and additions of the matrix products: ``2 T B 4H (D + H)`` forward, three times that with
    gradients. What is recomputed does not count; masked steps do."""
    time, batch, inputs, hidden, kind = workload
    count = 2 if kind in ("two layers", "bidirectional") else 1
    forward = 2.0 * time * batch * 4 * hidden * (inputs + hidden) * count
    if mode == "forward":
        return forward
    return forward * (6 if kind == "hvp" else 3)


def disagreement(result: Any, reference: Any) -> float:
    """The largest difference of any array, as a share of that array's largest entry."""
    worst = 0.0
    for got, want in zip(jax.tree.leaves(result), jax.tree.leaves(reference), strict=True):
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        error = np.abs(got - want).max() / max(np.abs(want).max(), 1e-30)
        worst = float(np.maximum(worst, error))  # a NaN stays
    return worst
