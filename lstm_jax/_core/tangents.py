"""Tangents of trees: what is known to be zero is None and costs nothing."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import PyTree, accumulator_dtype


def jvp_with_zeros(function: Callable, primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree | None]:
    """``jax.jvp`` in which a None tangent is zero and costs nothing; the output's tangent is None if all are."""
    leaves, structure = jax.tree.flatten(primals, is_leaf=_is_none)
    dleaves = jax.tree.leaves(tangents, is_leaf=_is_none)
    moving = [k for k, dleaf in enumerate(dleaves) if dleaf is not None]
    if not moving:
        return function(*primals), None

    def of_moving(*moved: jax.Array) -> PyTree:
        filled = list(leaves)
        for k, leaf in zip(moving, moved, strict=True):
            filled[k] = leaf
        return function(*jax.tree.unflatten(structure, filled))

    return jax.jvp(of_moving, tuple(leaves[k] for k in moving), tuple(dleaves[k] for k in moving))


def linearize_steps(function: Callable, *primals: PyTree) -> tuple[list[jax.Array], Callable]:
    """The tangent of a function of one step, at each of a chunk's steps ``[chunk, ...]``.

    Returns:
        (coefficients ``[chunk, ...]``, a map from one step's coefficients to its tangent as a function). What is the
        same at all steps, such as a kernel, is not repeated but part of the map.
    """
    structure = None

    def at(*primals: PyTree) -> list[jax.Array]:
        nonlocal structure
        leaves, structure = jax.tree.flatten(jax.linearize(function, *primals)[1])
        return leaves

    jaxpr = jax.make_jaxpr(at)(*jax.tree.map(lambda leaf: leaf[0], primals)).jaxpr
    varying = {id(var) for var in jaxpr.invars}
    for equation in jaxpr.eqns:
        if any(id(var) in varying for var in equation.invars):
            varying.update(id(var) for var in equation.outvars)
    moves = [id(var) in varying for var in jaxpr.outvars]
    leaves = jax.vmap(at, out_axes=[0 if move else None for move in moves])(*primals)

    def linear(coefficients: list[jax.Array]) -> Callable:
        step = iter(coefficients)
        return jax.tree.unflatten(
            structure, [next(step) if move else leaf for move, leaf in zip(moves, leaves, strict=True)]
        )

    return [leaf for move, leaf in zip(moves, leaves, strict=True) if move], linear


def drop_unused(function: Callable, argument: PyTree, tangent: PyTree) -> PyTree:
    """The tangent with None for the leaves of the argument that the function does not read."""
    jaxpr = jax.make_jaxpr(function)(argument).jaxpr
    read = {id(var) for equation in jaxpr.eqns for var in equation.invars} | {id(var) for var in jaxpr.outvars}
    kept = jax.tree.unflatten(jax.tree.structure(argument), [id(var) in read for var in jaxpr.invars])
    return jax.tree.map(lambda keep, dleaf: dleaf if keep else None, kept, tangent)


def widen(tree: PyTree) -> PyTree:
    """The tree in accumulator dtypes, so that gradients from many chunks or segments are summed in them."""
    return jax.tree.map(
        lambda leaf: leaf.astype(accumulator_dtype(leaf.dtype)) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
        tree,
    )


def cast(tree: PyTree, like: PyTree) -> PyTree:
    """The tree in the dtypes of another; None stays None."""
    return jax.tree.map(
        lambda leaf, other: None if leaf is None else leaf.astype(other.dtype), tree, like, is_leaf=_is_none
    )


def add(left: PyTree, right: PyTree | None) -> PyTree:
    """The sum, leaf by leaf."""
    return left if right is None else jax.tree.map(jnp.add, left, right)


def _is_none(leaf: Any) -> bool:
    return leaf is None


def symbolic_zero_to_none(tangent: Any) -> Any:
    """A tangent as a ``custom_jvp`` rule receives it; None if it is known to be zero."""
    return None if isinstance(tangent, jax.custom_derivatives.SymbolicZero) else tangent


def instantiate_zero(primal: jax.Array, tangent: Any) -> Any:
    """The same as an array of zeros."""
    return jnp.zeros_like(primal) if isinstance(tangent, jax.custom_derivatives.SymbolicZero) else tangent
