"""Builds the program of a workload for any library: outputs, loss, derivatives."""

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
"""Kind of workload to its modes, for kinds with one mode only."""
TWO_LAYER_KINDS = ("two layers", "bidirectional")
"""Kinds of workloads with two sets of weights."""


class Problem(NamedTuple):
    """The weights and data of a workload, with time as the first axis."""

    params: tuple[lj.LSTMParams, ...]
    """weights of the layer, or of each of two layers or directions"""
    xs: jax.Array
    """``[T, B, D]``"""
    target: jax.Array
    """``[T, B, H]``, or ``[T, B, 2H]`` if bidirectional"""
    lengths: jax.Array | None
    """``[B]``, uniform in 1 to T; None unless the kind is ``"ragged"``"""
    resets: jax.Array | None
    """``[T, B]``, true with probability 0.05; None unless the kind is ``"resets"``"""


class Program(NamedTuple):
    """A function to compile, with its arguments."""

    function: Callable[..., Any]
    """the function to compile"""
    arguments: tuple
    """its positional arguments"""
    to_comparable: Callable[[Any], Any]
    """converts the result to a form that is equal for all libraries"""


def modes(workload: Workload) -> tuple[str, ...]:
    """Lists the modes in which a workload is measured: ``"forward"``, ``"value_and_grad"`` or both."""
    return MODES_OF_KIND.get(workload.kind, ("forward", "value_and_grad"))


def make_problem(workload: Workload) -> Problem:
    """Draws the weights and data of a workload from a fixed key, so that all libraries and runs have the same."""
    num_steps, batch_size, input_size, hidden_size, kind = workload
    keys = jax.random.split(jax.random.key(0), 6)
    num_layers = 2 if kind in TWO_LAYER_KINDS else 1
    input_sizes = [input_size, hidden_size if kind == "two layers" else input_size][:num_layers]
    params = tuple(lj.init_params(key, size, hidden_size) for key, size in zip(keys, input_sizes, strict=False))
    output_size = 2 * hidden_size if kind == "bidirectional" else hidden_size
    return Problem(
        params,
        jax.random.normal(keys[2], (num_steps, batch_size, input_size)),
        jax.random.normal(keys[3], (num_steps, batch_size, output_size)),
        jax.random.randint(keys[4], (batch_size,), 1, num_steps + 1) if kind == "ragged" else None,
        jax.random.bernoulli(keys[5], 0.05, (num_steps, batch_size)) if kind == "resets" else None,
    )


def build_program(workload: Workload, mode: str, layer: Layer, problem: Problem) -> Program:
    """Builds the program of a workload in one mode with the layer of a library."""
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
    """Builds value and gradient, with respect to the weights, of the sum of the final output."""

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
    """Builds the derivative of the mean squared error that a kind of workload asks for.

    ``arguments`` are weights, xs and target; ``swap_axes`` converts xs to and from batch first.
    """

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
    """Converts the weights (or gradients) of each layer or direction to ``LSTMParams``."""
    return tuple(layer.import_params(layer_weights) for layer_weights in weights)


def _make_outputs(kind: str, layer: Layer, problem: Problem) -> Callable[[tuple, jax.Array], jax.Array]:
    """Builds ``outputs(weights, xs) -> ys`` for a kind of workload; ys are 0 after the length of a sequence."""
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
    """Counts the floating-point operations of the matrix products.

    There are ``2 T B 4H (D + H)`` in the forward pass and three times as many with gradients. Masked steps count;
    recomputation does not.
    """
    num_steps, batch_size, input_size, hidden_size, kind = workload
    num_layers = 2 if kind in TWO_LAYER_KINDS else 1
    forward = 2.0 * num_steps * batch_size * 4 * hidden_size * (input_size + hidden_size) * num_layers
    if mode == "forward":
        return forward
    return forward * (6 if kind == "hvp" else 3)


def max_relative_error(result: Any, reference: Any) -> float:
    """Returns the largest difference between two pytrees, relative to the largest entry of each array."""
    max_error = 0.0
    for leaf, reference_leaf in zip(jax.tree.leaves(result), jax.tree.leaves(reference), strict=True):
        values, expected = np.asarray(leaf, np.float64), np.asarray(reference_leaf, np.float64)
        error = np.abs(values - expected).max() / max(np.abs(expected).max(), 1e-30)
        max_error = float(np.maximum(max_error, error))  # np.maximum propagates NaN
    return max_error
