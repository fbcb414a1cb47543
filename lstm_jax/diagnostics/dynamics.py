"""Where a recurrent network comes to rest: fixed points, slow points, and what happens around them.

    F(s) = the state behind one step from s, the input held at x
    q(s) = |F(s) - s|^2 / 2          0 at a fixed point, small at a slow one

q is minimised from many states at once by Adam, then by Newton's method on F(s) = s (Sussillo and Barak 2013, Neural
Computation 25). A fixed point is stable if all eigenvalues of dF/ds lie inside the unit circle, a saddle if some do
not.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from lstm_jax._core import engine
from lstm_jax._core.checks import check_state
from lstm_jax._core.structs import Cell, PyTree, accumulator_dtype
from lstm_jax.cells import LSTM

NEWTON_STEPS = 20
MARGIN = 1e-4
"""A direction grows if its eigenvalue is larger than 1 by this, the rounding of float32 left aside."""


class FixedPoints(NamedTuple):
    """Points that a search came to, ``N`` of them; ``speeds`` are |F(s) - s|, below 1e-5 a point counts as fixed."""

    states: PyTree
    """parts ``[N, H]``"""
    speeds: jax.Array
    """``[N]``: |F(s) - s|"""
    jacobians: jax.Array
    """``[N, S, S]``: dF/ds, the parts of the state in their order, h then c"""
    eigenvalues: jax.Array
    """complex ``[N, S]`` of dF/ds, the largest first"""

    @property
    def unstable(self) -> jax.Array:
        """How many directions grow, ``[N]``: 0 of a stable point, more of a saddle."""
        return (jnp.abs(self.eigenvalues) > 1 + MARGIN).sum(axis=-1)


def fixed_points(
    params: PyTree,
    x: jax.Array,
    starts: PyTree,
    *,
    cell: Cell = LSTM,
    steps: int = 2000,
    learning_rate: float = 0.02,
    polish: bool = True,
) -> FixedPoints:
    """Searches from many states for points where the network stays, its input held at ``x``.

        found = diagnostics.fixed_points(params, jnp.zeros(3), starts)
        found = diagnostics.distinct_points(found, speed=1e-5)

    Args:
        params: in float32 or float64; half precision cannot tell slow from fixed.
        x: ``[D]``.
        starts: states, parts ``[N, H]``: states of trajectories, with some noise to find saddles between them.
        steps: of Adam, its rate falling along a half cosine.
        learning_rate: in units of the state.
        polish: Newton's method from there, where it comes closer to a fixed point; False leaves slow points that are
            not fixed where Adam found them.
    Returns:
        as many points as starts, in their order; many coincide, and some are no fixed points: look at ``speeds``.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    cell.check(params, x[None] if getattr(x, "ndim", 0) == 1 else x)
    rows = {leaf.shape[:1] for leaf in jax.tree.leaves(starts)}
    zeros = jax.eval_shape(lambda: cell.zero_state(params, next(iter(rows))))
    check_state("starts", starts, zeros, broadcasts=False)
    halves = [leaf.dtype for leaf in jax.tree.leaves(starts) if jnp.finfo(leaf.dtype).bits < 32]
    if halves or jnp.ndim(x) != 1:
        got = ", ".join([str(jnp.shape(x)), *map(str, halves)])
        raise ValueError(f"x, starts: got {got}, want [D] and states in float32 or float64")
    return _search(cell, steps, polish, params, x, starts, learning_rate)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _search(
    cell: Cell, steps: int, polish: bool, params: PyTree, x: jax.Array, starts: PyTree, rate: jax.Array
) -> FixedPoints:
    prepared = cell.prepare(params)
    _, unflatten = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], starts))

    def move(flat: jax.Array) -> jax.Array:
        return ravel_pytree(engine.step(cell, prepared, unflatten(flat), x)[0])[0] - flat

    flat = _descend(move, jax.vmap(lambda state: ravel_pytree(state)[0])(starts), steps, rate)
    if polish:
        flat = lax.fori_loop(0, NEWTON_STEPS, lambda _, flat: _newton(move, flat), flat)
    jacobians = jax.vmap(jax.jacfwd(move))(flat) + jnp.eye(flat.shape[-1], dtype=flat.dtype)[None]
    eigenvalues = jnp.linalg.eigvals(jacobians)
    order = jnp.argsort(-jnp.abs(eigenvalues), axis=-1)
    speeds = jnp.linalg.norm(jax.vmap(move)(flat), axis=-1)
    return FixedPoints(jax.vmap(unflatten)(flat), speeds, jacobians, jnp.take_along_axis(eigenvalues, order, axis=-1))


Move = Callable[[jax.Array], jax.Array]
"""``F(s) - s`` of a flat state ``[S]``"""


def _descend(move: Move, flat: jax.Array, steps: int, rate: jax.Array) -> jax.Array:
    """``[N, S]`` after so many steps of Adam on q."""
    optimizer = optax.adam(lambda count: rate * 0.5 * (1 + jnp.cos(jnp.pi * count.astype(flat.dtype) / steps)))

    def descend(carry: tuple, _: None) -> tuple[tuple, None]:
        flat, state = carry
        gradient = jax.grad(lambda flat: 0.5 * jnp.sum(jax.vmap(move)(flat) ** 2))(flat)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(flat, updates), state), None

    return lax.scan(descend, (flat, optimizer.init(flat)), length=steps)[0][0]


def _newton(move: Move, flat: jax.Array) -> jax.Array:
    """One step of Newton's method on ``F(s) = s`` for each of ``[N, S]`` that it brings closer."""
    moves = jax.vmap(move)(flat)
    tried = flat - jnp.linalg.solve(jax.vmap(jax.jacfwd(move))(flat), moves[..., None])[..., 0]
    closer = jnp.linalg.norm(jax.vmap(move)(tried), axis=-1) < jnp.linalg.norm(moves, axis=-1)  # false for NaN
    return jnp.where(closer[:, None], tried, flat)


def distinct_points(found: FixedPoints, *, speed: float = 1e-5, apart: float = 1e-2) -> FixedPoints:
    """The points slower than ``speed``, one of each cluster of those closer than ``apart``, the stablest first."""
    states = np.asarray(jax.vmap(lambda state: ravel_pytree(state)[0])(found.states))
    kept: list[int] = []
    for index in np.lexsort((np.asarray(found.speeds), np.asarray(found.unstable))):
        near = np.linalg.norm(states[kept] - states[index], axis=-1) < apart
        if found.speeds[index] < speed and not near.any():
            kept.append(int(index))
    return jax.tree.map(lambda leaf: leaf[np.array(kept, int)], found)


class Components(NamedTuple):
    """The plane, or more, in which states vary most."""

    mean: jax.Array
    """``[S]``"""
    axes: jax.Array
    """``[K, S]``, of length 1, the widest first"""
    shares: jax.Array
    """``[K]``: of the variance"""


def principal_components(states: PyTree, count: int = 2) -> Components:
    """The principal components of states whose parts are ``[..., H]``, such as a trace's ``{"h": ..., "c": ...}``."""
    flat = _rows(states)
    mean = flat.mean(axis=0)
    _, sizes, axes = jnp.linalg.svd(flat - mean[None], full_matrices=False)
    return Components(mean, axes[:count], sizes[:count] ** 2 / jnp.sum(sizes**2))


def project_onto(components: Components, states: PyTree) -> jax.Array:
    """States ``[..., H]`` as coordinates along the components, ``[..., K]``."""
    shape = jax.tree.leaves(states)[0].shape[:-1]
    return ((_rows(states) - components.mean[None]) @ components.axes.T).reshape(*shape, len(components.axes))


def _rows(states: PyTree) -> jax.Array:
    """``[N, S]``: the parts side by side, all leading axes as rows; in float32, or float64 for float64."""
    leaves = [leaf.astype(accumulator_dtype(leaf.dtype)) for leaf in jax.tree.leaves(states)]
    return jnp.concatenate([leaf.reshape(-1, leaf.shape[-1]) for leaf in leaves], axis=-1)
