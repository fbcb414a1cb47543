"""Tangents of trees: what is known to be zero is None and costs nothing."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import PyTree, accumulator_dtype


def jvp_with_zeros(function: Callable, primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree | None]:
    """``jax.jvp`` in which a None tangent is zero and costs nothing; the output's tangent is None if all are.

    Args:
        function: of the primals.
        primals: a tuple of trees of arrays.
        tangents: trees of the same structure, with None for each leaf whose tangent is zero.
    Returns:
        (function(*primals), its tangent or None).
    """
    leaves, structure = jax.tree.flatten(primals, is_leaf=_is_none)
    dleaves = jax.tree.leaves(tangents, is_leaf=_is_none)
    nonzero = [index for index, dleaf in enumerate(dleaves) if dleaf is not None]
    if not nonzero:
        return function(*primals), None

    def of_nonzero(*changing: jax.Array) -> PyTree:
        filled = list(leaves)
        for index, leaf in zip(nonzero, changing, strict=True):
            filled[index] = leaf
        return function(*jax.tree.unflatten(structure, filled))

    return jax.jvp(of_nonzero, tuple(leaves[k] for k in nonzero), tuple(dleaves[k] for k in nonzero))


def linearize_steps(function: Callable, *primals: PyTree) -> tuple[list[jax.Array], Callable]:
    """The tangent of a function of one step at every step of a chunk, as coefficients and a map that reads them.

    ``jax.linearize`` returns a linear function, which is a tree whose leaves are arrays: the coefficients. For
    ``f(x) = k * sin(x)`` they are ``k`` and ``cos(x)``. Here this is done at all steps of a chunk by ``vmap``:
    ``cos(x)`` differs between steps and is returned ``[chunk, ...]``; ``k`` is the same at all steps and stays in the
    map, so that no kernel is repeated for each step. Which is which is read off the traced program: what depends on
    the primals differs.

        >>> import jax.numpy as jnp
        >>> from lstm_jax._core.tangents import linearize_steps
        >>> k, xs = jnp.array(3.0), jnp.array([0.0, jnp.pi])
        >>> coefficients, tangent_map = linearize_steps(lambda x: k * jnp.sin(x), xs)
        >>> at_second_step = tangent_map([leaf[1] for leaf in coefficients])
        >>> round(float(at_second_step(jnp.array(1.0))), 4)  # 3 cos(pi)
        -3.0

    Assumed, and asserted: the linear function has the same tree at every step, which holds as the trace sees shapes
    alone, and it is a tree of arrays.

    Args:
        function: of one step's primals; what it closes over is the same at all steps.
        primals: trees of arrays ``[chunk, ...]``.
    Returns:
        (coefficients ``[chunk, ...]``, ``tangent_map(one step's coefficients) -> the tangent as a linear function``).
    """
    structures: list[Any] = []

    def coefficients_of(*primals: PyTree) -> list[jax.Array]:
        leaves, structure = jax.tree.flatten(jax.linearize(function, *primals)[1])
        assert all(isinstance(leaf, jax.Array) for leaf in leaves), "the linear function closes over what is no array"
        structures.append(structure)
        return leaves

    jaxpr = jax.make_jaxpr(coefficients_of)(*jax.tree.map(lambda leaf: leaf[0], primals)).jaxpr
    varying = {id(var) for var in jaxpr.invars}
    for equation in jaxpr.eqns:
        if any(id(var) in varying for var in equation.invars):
            varying.update(id(var) for var in equation.outvars)
    varies = [id(var) in varying for var in jaxpr.outvars]
    leaves = jax.vmap(coefficients_of, out_axes=[0 if each else None for each in varies])(*primals)
    assert len(leaves) == structures[-1].num_leaves == structures[0].num_leaves, "steps differ in more than numbers"

    def tangent_map(coefficients: list[jax.Array]) -> Callable:
        of_step = iter(coefficients)
        filled = [next(of_step) if each else leaf for each, leaf in zip(varies, leaves, strict=True)]
        return jax.tree.unflatten(structures[-1], filled)

    return [leaf for each, leaf in zip(varies, leaves, strict=True) if each], tangent_map


def drop_unused(function: Callable, argument: PyTree, tangent: PyTree) -> PyTree:
    """The tangent of an argument, with None for the leaves that the function does not read."""
    jaxpr = jax.make_jaxpr(function)(argument).jaxpr
    read = {id(var) for equation in jaxpr.eqns for var in equation.invars} | {id(var) for var in jaxpr.outvars}
    is_read = jax.tree.unflatten(jax.tree.structure(argument), [id(var) in read for var in jaxpr.invars])
    return jax.tree.map(lambda keep, dleaf: dleaf if keep else None, is_read, tangent)


def to_accumulator(tree: PyTree) -> PyTree:
    """The tree in accumulator dtypes, so that gradients from many chunks or segments are summed in them."""
    return jax.tree.map(
        lambda leaf: leaf.astype(accumulator_dtype(leaf.dtype)) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
        tree,
    )


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """The tree in the dtypes of another; None stays None."""
    return jax.tree.map(
        lambda leaf, other: None if leaf is None else leaf.astype(other.dtype), tree, like, is_leaf=_is_none
    )


def add_trees(left: PyTree, right: PyTree | None) -> PyTree:
    """The sum, leaf by leaf; None counts as zero."""
    return left if right is None else jax.tree.map(jnp.add, left, right)


def _is_none(leaf: Any) -> bool:
    return leaf is None


def zero_to_none(tangent: Any) -> Any:
    """A tangent as a ``custom_jvp`` rule receives it; None if it is known to be zero."""
    return None if isinstance(tangent, jax.custom_derivatives.SymbolicZero) else tangent


def zero_to_array(primal: jax.Array, tangent: Any) -> Any:
    """A tangent as a ``custom_jvp`` rule receives it; an array of zeros if it is known to be zero."""
    return jnp.zeros_like(primal) if isinstance(tangent, jax.custom_derivatives.SymbolicZero) else tangent
