"""Dynamics of a recurrent network under a constant input: fixed points, slow points, and the directions around them.

    F(s) = the state after one step from s, the input held at x
    q(s) = |F(s) - s|^2 / 2          0 at a fixed point, small at a slow point

q is minimized from many states at once by Adam, then by Newton's method on F(s) = s (Sussillo and Barak 2013, Neural
Computation 25). A fixed point is stable if all eigenvalues of dF/ds lie inside the unit circle, a saddle if some of
them do.
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
from jax.typing import ArrayLike

from lstm_jax._core import engine
from lstm_jax._core.checks import check_state
from lstm_jax._core.structs import Cell, PyTree, accumulator_dtype
from lstm_jax.cells import LSTM

UNSTABLE_MARGIN = 1e-4
"""A direction counts as unstable if its eigenvalue exceeds 1 by this much in size, more than float32 rounds off."""


class FixedPoints(NamedTuple):
    """Points that a search ended at, ``N`` of them, fixed or not."""

    states: PyTree
    """the points, parts ``[N, H]``"""
    speeds: jax.Array
    """``[N]``: |F(s) - s|; a point whose speed is below 1e-5 is usually called fixed"""
    jacobians: jax.Array
    """``[N, S, S]``: dF/ds at each point; the S numbers of a state are its parts in their order, h then c"""
    eigenvalues: jax.Array
    """complex ``[N, S]``: those of dF/ds, the largest first"""

    @property
    def num_unstable(self) -> jax.Array:
        """The number of directions that grow at each point, ``[N]``: 0 at a stable point, more at a saddle."""
        return (jnp.abs(self.eigenvalues) > 1 + UNSTABLE_MARGIN).sum(axis=-1)


def fixed_points(
    params: PyTree,
    x: ArrayLike,
    initial_states: PyTree,
    *,
    cell: Cell = LSTM,
    adam_steps: int = 2000,
    learning_rate: float = 0.02,
    newton_steps: int = 20,
) -> FixedPoints:
    """Searches for fixed points of a cell whose input is held constant, from many initial states at once.

    Args:
        params: parameters of the cell in float32 or float64; half precision cannot tell a slow point from a fixed one.
        x: the constant input ``[D]``.
        initial_states: states, parts ``[N, H]``: those of trajectories, with some noise to find saddles between them.
        cell: any of ``cells.CELLS``, or a cell made of one.
        adam_steps: steps of Adam on q, over which the learning rate falls to 0 along half a cosine.
        learning_rate: the first learning rate of Adam, in units of the state.
        newton_steps: steps of Newton's method that follow, each taken where it comes closer to a fixed point. 0 leaves
            slow points that are not fixed where Adam found them.
    Returns:
        ``FixedPoints`` with a point for each initial state, in their order. Many coincide and some are not fixed:
        ``distinct_points`` leaves those out.
    Raises:
        ValueError: naming the argument, what it got and what it wants.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.init_params(jax.random.key(0), 3, 8)
        >>> points = lj.diagnostics.fixed_points(params, jnp.zeros(3), lj.zero_state(params, (4,)))
        >>> points.speeds.shape, len(lj.diagnostics.distinct_points(points).speeds)
        ((4,), 1)
    """
    x = jnp.asarray(x)
    cell.check(params, x[None] if x.ndim == 1 else x)
    rows = {leaf.shape[:1] for leaf in jax.tree.leaves(initial_states)}
    zeros = jax.eval_shape(lambda: cell.zero_state(params, next(iter(rows))))
    check_state("initial_states", initial_states, zeros, broadcasts=False)
    half_dtypes = [leaf.dtype for leaf in jax.tree.leaves(initial_states) if jnp.finfo(leaf.dtype).bits < 32]
    if half_dtypes or x.ndim != 1:
        got = ", ".join([str(x.shape), *map(str, half_dtypes)])
        raise ValueError(f"x, initial_states: got {got}, want [D] and states in float32 or float64")
    return _search(cell, adam_steps, newton_steps, params, x, initial_states, learning_rate)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _search(
    cell: Cell,
    adam_steps: int,
    newton_steps: int,
    params: PyTree,
    x: jax.Array,
    initial_states: PyTree,
    learning_rate: jax.Array,
) -> FixedPoints:
    prepared = cell.prepare(params)
    _, unflatten = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], initial_states))

    def displacement(flat: jax.Array) -> jax.Array:
        return ravel_pytree(engine.step(cell, prepared, unflatten(flat), x)[0])[0] - flat

    points = jax.vmap(lambda state: ravel_pytree(state)[0])(initial_states)
    points = _minimize_speed(displacement, points, adam_steps, learning_rate)
    points = lax.fori_loop(0, newton_steps, lambda _, points: _newton_step(displacement, points), points)
    identity = jnp.eye(points.shape[-1], dtype=points.dtype)
    jacobians = jax.vmap(jax.jacfwd(displacement))(points) + identity[None]
    eigenvalues = jnp.linalg.eigvals(jacobians)
    order = jnp.argsort(-jnp.abs(eigenvalues), axis=-1)
    speeds = jnp.linalg.norm(jax.vmap(displacement)(points), axis=-1)
    return FixedPoints(jax.vmap(unflatten)(points), speeds, jacobians, jnp.take_along_axis(eigenvalues, order, axis=-1))


Displacement = Callable[[jax.Array], jax.Array]
"""``displacement(s) -> F(s) - s`` for a flat state ``[S]``."""


def _minimize_speed(
    displacement: Displacement, points: jax.Array, num_steps: int, learning_rate: jax.Array
) -> jax.Array:
    """Returns the points ``[N, S]`` after so many steps of Adam on q."""

    def schedule(count: jax.Array) -> jax.Array:
        return learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * count.astype(points.dtype) / num_steps))

    def sum_of_q(points: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum(jax.vmap(displacement)(points) ** 2)

    optimizer = optax.adam(schedule)

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        points, state = carry
        updates, state = optimizer.update(jax.grad(sum_of_q)(points), state)
        return (optax.apply_updates(points, updates), state), None

    return lax.scan(step, (points, optimizer.init(points)), length=num_steps)[0][0]


def _newton_step(displacement: Displacement, points: jax.Array) -> jax.Array:
    """Takes one step of Newton's method on ``F(s) = s`` for each of the points ``[N, S]`` that it brings closer."""
    displacements = jax.vmap(displacement)(points)
    slopes = jax.vmap(jax.jacfwd(displacement))(points)
    candidates = points - jnp.linalg.solve(slopes, displacements[..., None])[..., 0]
    speeds = jnp.linalg.norm(displacements, axis=-1)
    is_closer = jnp.linalg.norm(jax.vmap(displacement)(candidates), axis=-1) < speeds  # False for NaN
    return jnp.where(is_closer[:, None], candidates, points)


def distinct_points(points: FixedPoints, *, max_speed: float = 1e-5, min_distance: float = 1e-2) -> FixedPoints:
    """Selects the points that are slow enough, one of each cluster, the stablest first.

    Args:
        points: what ``fixed_points`` returned.
        max_speed: points at least this fast, |F(s) - s|, are left out.
        min_distance: points closer than this to one that was selected are left out.
    Returns:
        ``FixedPoints`` with the selected points: those with the fewest unstable directions first, of equals the
        slowest first. It computes on the host.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> states = jnp.array([[0.0], [0.001], [0.5]])
        >>> points = lj.diagnostics.FixedPoints(states, jnp.array([1e-7, 1e-6, 1e-2]), jnp.ones((3, 1, 1)), states)
        >>> lj.diagnostics.distinct_points(points).states.tolist()
        [[0.0]]
    """
    states = np.asarray(jax.vmap(lambda state: ravel_pytree(state)[0])(points.states))
    selected: list[int] = []
    for index in np.lexsort((np.asarray(points.speeds), np.asarray(points.num_unstable))):
        is_near = np.linalg.norm(states[selected] - states[index], axis=-1) < min_distance
        if points.speeds[index] < max_speed and not is_near.any():
            selected.append(int(index))
    return jax.tree.map(lambda leaf: leaf[np.array(selected, int)], points)


class PrincipalComponents(NamedTuple):
    """The orthogonal directions in which states vary most."""

    mean: jax.Array
    """``[S]``: the mean state"""
    components: jax.Array
    """``[K, S]``: unit vectors, in order of falling variance"""
    explained_variance_ratio: jax.Array
    """``[K]``: the fraction of the variance along each"""


def principal_components(states: PyTree, num_components: int = 2) -> PrincipalComponents:
    """Computes the principal components of states.

    Args:
        states: parts ``[..., H]`` such as an ``LSTMState`` or ``{"h": ..., "c": ...}`` of a trace; every leading index
            is a sample, and the S numbers of a state are its parts side by side.
        num_components: how many directions are returned.
    Returns:
        ``PrincipalComponents`` in float32, or float64 for float64.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> states = {"h": jnp.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])}
        >>> components = lj.diagnostics.principal_components(states, 1)
        >>> (10 * abs(components.components)).round().tolist(), components.explained_variance_ratio.round().tolist()
        ([[6.0, 8.0]], [1.0])
    """
    rows = _flatten_states(states)
    mean = rows.mean(axis=0)
    _, sizes, axes = jnp.linalg.svd(rows - mean[None], full_matrices=False)
    return PrincipalComponents(mean, axes[:num_components], sizes[:num_components] ** 2 / jnp.sum(sizes**2))


def project_onto(components: PrincipalComponents, states: PyTree) -> jax.Array:
    """Computes the coordinates of states along principal components.

    Args:
        components: what ``principal_components`` returned for states of this structure.
        states: parts ``[..., H]``.
    Returns:
        ``[..., K]``, 0 for the mean state.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> states = {"h": jnp.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])}
        >>> components = lj.diagnostics.principal_components(states, 1)
        >>> abs(lj.diagnostics.project_onto(components, states)).round(3).tolist()
        [[5.0], [0.0], [5.0]]
    """
    lead = jax.tree.leaves(states)[0].shape[:-1]
    coordinates = (_flatten_states(states) - components.mean[None]) @ components.components.T
    return coordinates.reshape(*lead, len(components.components))


def _flatten_states(states: PyTree) -> jax.Array:
    """Returns ``[N, S]``: all leading axes as rows, the parts side by side; in float32, or float64 for float64."""
    leaves = [jnp.asarray(leaf).astype(accumulator_dtype(leaf.dtype)) for leaf in jax.tree.leaves(states)]
    return jnp.concatenate([leaf.reshape(-1, leaf.shape[-1]) for leaf in leaves], axis=-1)
