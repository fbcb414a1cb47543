"""Where a recurrent network comes to rest: fixed points, slow points, and what happens around them.

    F(s) = the state behind one step from s, the input held at x
    q(s) = |F(s) - s|^2 / 2          0 at a fixed point, small at a slow one

q is minimised from many states at once by Adam, then by Newton's method on F(s) = s (Sussillo and Barak 2013, Neural
Computation 25). A fixed point is stable if all eigenvalues of dF/ds lie inside the unit circle, a saddle if some do
not.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from lstm_jax import engine
from lstm_jax.cells import LSTM
from lstm_jax.structs import Cell, PyTree

NEWTON_STEPS = 20


class FixedPoints(NamedTuple):
    """Points that a search came to, ``N`` of them."""

    states: PyTree
    """parts ``[N, H]``"""
    speeds: jax.Array
    """``[N]``: |F(s) - s|"""
    eigenvalues: jax.Array
    """complex ``[N, S]`` of dF/ds, the largest first"""

    @property
    def unstable(self) -> jax.Array:
        """How many directions grow, ``[N]``: 0 of a stable point, more of a saddle."""
        return (jnp.abs(self.eigenvalues) > 1).sum(axis=-1)


def fixed_points(
    params: PyTree,
    x: jax.Array,
    starts: PyTree,
    *,
    cell: Cell = LSTM,
    steps: int = 2000,
    learning_rate: float = 0.02,
) -> FixedPoints:
    """Searches from many states for points where the network stays, its input held at ``x``.

        found = diagnostics.fixed_points(params, jnp.zeros(3), starts)
        found = diagnostics.distinct(found, speed=1e-5)

    Args:
        x: ``[D]``.
        starts: states, parts ``[N, H]``: states of trajectories, with some noise to find saddles between them.
        steps: of Adam, its rate falling along a half cosine; Newton's method follows where it comes closer.
        learning_rate: in units of the state.
    Returns:
        as many points as starts, in their order; many coincide, and some are no fixed points: look at ``speeds``.
    """
    prepared = cell.prepare(params)
    _, unflatten = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], starts))
    flat = jax.vmap(lambda state: ravel_pytree(state)[0])(starts)

    def move(flat: jax.Array) -> jax.Array:
        return ravel_pytree(engine.step(cell, prepared, unflatten(flat), x)[0])[0] - flat

    found, eigenvalues = jax.jit(lambda flat: _search(move, flat, steps, learning_rate))(flat)
    order = jnp.argsort(-jnp.abs(eigenvalues), axis=-1)
    speeds = jnp.linalg.norm(jax.vmap(move)(found), axis=-1)
    return FixedPoints(jax.vmap(unflatten)(found), speeds, jnp.take_along_axis(eigenvalues, order, axis=-1))


def _search(
    move: Callable[[jax.Array], jax.Array], flat: jax.Array, steps: int, rate: float
) -> tuple[jax.Array, jax.Array]:
    """Where ``[N, S]`` come to, and the eigenvalues there."""
    speed = jax.vmap(lambda flat: 0.5 * jnp.sum(move(flat) ** 2))
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def descend(carry: tuple, _: None) -> tuple[tuple, None]:
        flat, state = carry
        gradient = jax.grad(lambda flat: speed(flat).sum())(flat)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(flat, updates), state), None

    (flat, _), _ = lax.scan(descend, (flat, optimizer.init(flat)), length=steps)
    slope = jax.vmap(jax.jacfwd(move))

    def newton(_: int, flat: jax.Array) -> jax.Array:
        by = jnp.linalg.solve(slope(flat), jax.vmap(move)(flat)[..., None])[..., 0]
        tried = flat - by
        closer = jnp.isfinite(tried).all(axis=-1) & (speed(tried) < speed(flat))
        return jnp.where(closer[:, None], tried, flat)

    flat = lax.fori_loop(0, NEWTON_STEPS, newton, flat)
    return flat, jnp.linalg.eigvals(slope(flat) + jnp.eye(flat.shape[-1], dtype=flat.dtype))


def distinct(found: FixedPoints, *, speed: float = 1e-5, apart: float = 1e-2) -> FixedPoints:
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


def onto(components: Components, states: PyTree) -> jax.Array:
    """States ``[..., H]`` as coordinates along the components, ``[..., K]``."""
    shape = jax.tree.leaves(states)[0].shape[:-1]
    return ((_rows(states) - components.mean[None]) @ components.axes.T).reshape(*shape, -1)


def _rows(states: PyTree) -> jax.Array:
    """``[N, S]``: the parts side by side, all leading axes as rows."""
    return jnp.concatenate([leaf.reshape(-1, leaf.shape[-1]) for leaf in jax.tree.leaves(states)], axis=-1)
