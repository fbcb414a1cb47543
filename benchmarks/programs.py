"""The program of each kind of workload, written once for every library: outputs, losses, derivatives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import lstm_jax as lj
from benchmarks.competitors.layer import Layer
from benchmarks.workloads import Workload

MODES_OF_KIND = {
    "stepwise": ("forward",),
    "per-example": ("value_and_grad",),
    "hvp": ("value_and_grad",),
    "final": ("value_and_grad",),
}
"""The mode of each kind that has only one."""
TWO_LAYER_KINDS = ("two layers", "bidirectional")
"""The kinds that have two sets of weights."""


class Problem(NamedTuple):
    """The weights and data of a workload, time first."""

    params: tuple[lj.LSTMParams, ...]
    """one entry, or one for each of two layers or directions"""
    xs: jax.Array
    """``[T, B, D]``"""
    target: jax.Array
    """``[T, B, H]``, or ``[T, B, 2H]`` if bidirectional"""
    lengths: jax.Array | None
    """uniform in 1 to T, ``[B]``"""
    resets: jax.Array | None
    """true at one step in twenty, ``[T, B]``"""


class Program(NamedTuple):
    """A function to compile, with its arguments."""

    function: Callable[..., Any]
    arguments: tuple
    to_comparable: Callable[[Any], Any]
    """maps the function's result to one that is the same for every library"""


def modes(workload: Workload) -> tuple[str, ...]:
    """Lists what is measured of a workload: ``"forward"``, ``"value_and_grad"`` by parameters and inputs, or both."""
    return MODES_OF_KIND.get(workload.kind, ("forward", "value_and_grad"))


def make_problem(workload: Workload) -> Problem:
    """Draws the weights and data of a workload, the same for every library and every run."""
    time, batch, input_size, hidden_size, kind = workload
    keys = jax.random.split(jax.random.key(0), 6)
    num_layers = 2 if kind in TWO_LAYER_KINDS else 1
    input_sizes = [input_size, hidden_size if kind == "two layers" else input_size][:num_layers]
    params = tuple(lj.init_params(key, size, hidden_size) for key, size in zip(keys, input_sizes, strict=False))
    output_size = 2 * hidden_size if kind == "bidirectional" else hidden_size
    return Problem(
        params,
        jax.random.normal(keys[2], (time, batch, input_size)),
        jax.random.normal(keys[3], (time, batch, output_size)),
        jax.random.randint(keys[4], (batch,), 1, time + 1) if kind == "ragged" else None,
        jax.random.bernoulli(keys[5], 0.05, (time, batch)) if kind == "resets" else None,
    )


def build_program(workload: Workload, mode: str, layer: Layer, problem: Problem) -> Program:
    """Builds what a library's layer computes for a workload in one mode."""
    weights = tuple(layer.export_params(params) for params in problem.params)

    def swap_axes(array: jax.Array) -> jax.Array:
        return jnp.swapaxes(array, 0, 1) if layer.batch_first and array.ndim == 3 else array

    xs = swap_axes(problem.xs)
    if workload.kind == "stepwise":
        state = lj.zero_state(problem.params[0], (workload.B,))
        return Program(layer.step, (weights[0], state, xs[0]), lambda result: result)
    outputs = _make_outputs(workload.kind, layer, problem)
    if mode == "forward":
        return Program(outputs, (weights, xs), swap_axes)
    if workload.kind == "final":
        return _final_state_gradient(layer, weights, xs)
    return _loss_derivative(workload.kind, layer, outputs, (weights, xs, swap_axes(problem.target)), swap_axes)


def _final_state_gradient(layer: Layer, weights: tuple, xs: jax.Array) -> Program:
    """Builds the value and gradient of the sum of the final output with respect to the weights."""

    def final_output(weights: Any, xs: jax.Array) -> jax.Array:
        if layer.final_output is not None:
            return layer.final_output(weights, xs)
        ys = layer.run_sequence(weights, xs)
        return ys[:, -1] if layer.batch_first else ys[-1]

    def total(weights: tuple, xs: jax.Array) -> jax.Array:
        return jnp.sum(final_output(weights[0], xs))

    to_comparable = lambda result: (result[0], _import_all(layer, result[1]))  # noqa: E731
    return Program(jax.value_and_grad(total), (weights, xs), to_comparable)


def _loss_derivative(
    kind: str, layer: Layer, outputs: Callable, arguments: tuple, swap_axes: Callable[[jax.Array], jax.Array]
) -> Program:
    """Builds a derivative of the mean squared error; ``arguments`` are weights, xs and target."""

    def loss(weights: Any, xs: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.mean((outputs(weights, xs) - target) ** 2)

    if kind == "per-example":
        batch_axis = 0 if layer.batch_first else 1
        gradients = jax.vmap(jax.grad(loss), (None, batch_axis, batch_axis))
        return Program(gradients, arguments, jax.vmap(lambda gradient: _import_all(layer, gradient)))
    if kind == "hvp":
        tangent = jax.tree.map(jnp.ones_like, arguments[0])

        def hessian_vector_product(weights: Any, xs: jax.Array, target: jax.Array) -> Any:
            return jax.jvp(lambda weights: jax.grad(loss)(weights, xs, target), (weights,), (tangent,))[1]

        return Program(hessian_vector_product, arguments, lambda gradient: _import_all(layer, gradient))

    def to_comparable(result: Any) -> Any:
        value, (weight_gradient, input_gradient) = result
        return value, _import_all(layer, weight_gradient), swap_axes(input_gradient)

    return Program(jax.value_and_grad(loss, (0, 1)), arguments, to_comparable)


def _import_all(layer: Layer, weights: tuple) -> tuple[lj.LSTMParams, ...]:
    return tuple(layer.import_params(part) for part in weights)


def _make_outputs(kind: str, layer: Layer, problem: Problem) -> Callable[[tuple, jax.Array], jax.Array]:
    """Builds ``outputs(weights, xs) -> ys`` for a kind of workload; at steps beyond a sequence's length ys are 0."""
    lengths, resets = problem.lengths, problem.resets
    mask = None
    if lengths is not None:
        mask = jnp.arange(problem.xs.shape[0])[:, None] < lengths
        mask = (mask.T if layer.batch_first else mask)[..., None]

    def outputs(weights: tuple, xs: jax.Array) -> jax.Array:
        ys = layer.run_sequence(weights[0], xs, lengths=lengths, resets=resets)
        if kind == "two layers":
            ys = layer.run_sequence(weights[1], ys)
        if kind == "bidirectional":
            ys = jnp.concatenate([ys, layer.run_sequence(weights[1], xs, reverse=True)], axis=-1)
        return ys if mask is None else jnp.where(mask, ys, 0)

    return outputs


def nominal_flops(workload: Workload, mode: str) -> float:
    """Counts the multiplications and additions of the matrix products.

    They are ``2 T B 4H (D + H)`` in the forward pass and three times that with gradients. What is recomputed does not
    count; masked steps do.
    """
    time, batch, input_size, hidden_size, kind = workload
    num_layers = 2 if kind in TWO_LAYER_KINDS else 1
    forward = 2.0 * time * batch * 4 * hidden_size * (input_size + hidden_size) * num_layers
    if mode == "forward":
        return forward
    return forward * (6 if kind == "hvp" else 3)


def max_relative_error(result: Any, reference: Any) -> float:
    """Returns the largest difference between two trees of arrays, each relative to its array's largest entry."""
    worst = 0.0
    for got, want in zip(jax.tree.leaves(result), jax.tree.leaves(reference), strict=True):
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        error = np.abs(got - want).max() / max(np.abs(want).max(), 1e-30)
        worst = float(np.maximum(worst, error))  # a NaN stays
    return worst
