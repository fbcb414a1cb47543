"""Fixed points and principal components of the dynamics of a recurrent network under a constant input.

    F(s) = the state after one step from state s with the constant input x
    q(s) = |F(s) - s|^2 / 2          0 at a fixed point, small at a slow point

The search minimizes q from many initial states at once by Adam, then applies Newton's method to F(s) = s (Sussillo and
Barak 2013, Neural Computation 25). A fixed point is stable if all eigenvalues of dF/ds lie inside the unit circle, and
a saddle if only some of them do.
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
"""A direction is unstable if its eigenvalue's magnitude exceeds 1 by more than this, above float32 rounding errors."""


class FixedPoints(NamedTuple):
    """Final points of a search from ``N`` initial states, which may be fixed or slow points."""

    states: PyTree
    """the points, a state with parts ``[N, H]``"""
    speeds: jax.Array
    """``[N]``: |F(s) - s|; usually a point counts as fixed if it is below 1e-5"""
    jacobians: jax.Array
    """``[N, S, S]``: dF/ds at each point; a state is flattened to S values in the order of its parts, h then c"""
    eigenvalues: jax.Array
    """complex ``[N, S]``: eigenvalues of dF/ds, in order of decreasing magnitude"""

    @property
    def num_unstable(self) -> jax.Array:
        """The number of unstable directions of each point, ``[N]``; 0 for a stable point."""
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
    """Searches for fixed points of a cell under a constant input, from many initial states at once.

    Args:
        params: parameters of the cell, in float32 or float64.
        x: constant input ``[D]``.
        initial_states: states with parts ``[N, H]``, for example those of a trajectory plus noise.
        cell: a cell of ``cells.CELLS``, or one derived from it.
        adam_steps: number of Adam steps on q, with a cosine decay of the learning rate to 0.
        learning_rate: initial learning rate of Adam, in units of the state.
        newton_steps: number of subsequent Newton steps; a step is rejected for points whose speed it does not reduce.
            Use 0 to keep the slow points that Adam found.
    Returns:
        ``FixedPoints`` with one point per initial state, in the same order. Duplicates and points that are not fixed
        can be removed by ``distinct_points``.
    Raises:
        ValueError: if ``params``, ``x`` or ``initial_states`` have the wrong shape or dtype.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.init_params(jax.random.key(0), 3, 8)
        >>> points = lj.diagnostics.fixed_points(params, jnp.zeros(3), lj.zero_state(params, (4,)))
        >>> points.speeds.shape, len(lj.diagnostics.distinct_points(points).speeds)
        ((4,), 1)
    """
    x = jnp.asarray(x)
    cell.check(params, x[None] if x.ndim == 1 else x)
    batch_shapes = {leaf.shape[:1] for leaf in jax.tree.leaves(initial_states)}
    expected_state = jax.eval_shape(lambda: cell.zero_state(params, next(iter(batch_shapes))))
    check_state("initial_states", initial_states, expected_state, broadcasts=False)
    half_dtypes = [leaf.dtype for leaf in jax.tree.leaves(initial_states) if jnp.finfo(leaf.dtype).bits < 32]
    if half_dtypes or x.ndim != 1:
        got = ", ".join([str(x.shape), *map(str, half_dtypes)])
        raise ValueError(f"x, initial_states: got {got}, want [D] and states in float32 or float64")
    return _search_fixed_points(cell, adam_steps, newton_steps, params, x, initial_states, learning_rate)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _search_fixed_points(
    cell: Cell,
    adam_steps: int,
    newton_steps: int,
    params: PyTree,
    x: jax.Array,
    initial_states: PyTree,
    learning_rate: jax.Array,
) -> FixedPoints:
    """Runs Adam, then Newton's method, and linearizes the dynamics at the resulting points."""
    prepared = cell.prepare(params)
    _, unflatten = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], initial_states))

    def displacement(flat_state: jax.Array) -> jax.Array:
        return ravel_pytree(engine.step(cell, prepared, unflatten(flat_state), x)[0])[0] - flat_state

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
    """Returns the points ``[N, S]`` after ``num_steps`` steps of Adam on q."""

    def schedule(count: jax.Array) -> jax.Array:
        return learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * count.astype(points.dtype) / num_steps))

    def sum_of_q(points: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum(jax.vmap(displacement)(points) ** 2)

    optimizer = optax.adam(schedule)

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        points, opt_state = carry
        updates, opt_state = optimizer.update(jax.grad(sum_of_q)(points), opt_state)
        return (optax.apply_updates(points, updates), opt_state), None

    return lax.scan(step, (points, optimizer.init(points)), length=num_steps)[0][0]


def _newton_step(displacement: Displacement, points: jax.Array) -> jax.Array:
    """Applies one Newton step on ``F(s) = s`` to those of the points ``[N, S]`` whose speed it reduces."""
    displacements = jax.vmap(displacement)(points)
    jacobians = jax.vmap(jax.jacfwd(displacement))(points)
    candidates = points - jnp.linalg.solve(jacobians, displacements[..., None])[..., 0]
    speeds = jnp.linalg.norm(displacements, axis=-1)
    candidate_speeds = jnp.linalg.norm(jax.vmap(displacement)(candidates), axis=-1)
    is_slower = candidate_speeds < speeds  # False for NaN
    return jnp.where(is_slower[:, None], candidates, points)


def distinct_points(points: FixedPoints, *, max_speed: float = 1e-5, min_distance: float = 1e-2) -> FixedPoints:
    """Selects the fixed points of a search, one point per cluster, most stable first; runs on the host.

    Args:
        points: the result of ``fixed_points``.
        max_speed: points with a speed |F(s) - s| of at least this are removed.
        min_distance: points closer than this to an already selected point are removed.
    Returns:
        ``FixedPoints`` with the selected points, sorted by the number of unstable directions, then by speed.

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
    """Principal components of a set of states."""

    mean: jax.Array
    """``[S]``: the mean state"""
    components: jax.Array
    """``[K, S]``: orthonormal vectors, in order of decreasing variance"""
    explained_variance_ratio: jax.Array
    """``[K]``: the fraction of the variance along each component"""


def principal_components(states: PyTree, num_components: int = 2) -> PrincipalComponents:
    """Computes the principal components of states.

    Args:
        states: a tree of arrays ``[..., H]`` such as an ``LSTMState``, or ``{"h": ..., "c": ...}`` of a trace. All
            leading axes are samples; the arrays are concatenated to S values per sample.
        num_components: number of components to return, K.
    Returns:
        ``PrincipalComponents`` in float32, or in float64 for float64 states.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> states = {"h": jnp.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])}
        >>> components = lj.diagnostics.principal_components(states, 1)
        >>> (10 * abs(components.components)).round().tolist(), components.explained_variance_ratio.round().tolist()
        ([[6.0, 8.0]], [1.0])
    """
    samples = _flatten_states(states)
    mean = samples.mean(axis=0)
    _, singular_values, components = jnp.linalg.svd(samples - mean[None], full_matrices=False)
    variances = singular_values**2
    return PrincipalComponents(mean, components[:num_components], variances[:num_components] / jnp.sum(variances))


def project_onto(components: PrincipalComponents, states: PyTree) -> jax.Array:
    """Projects states onto principal components.

    Args:
        components: the result of ``principal_components`` for states of the same structure.
        states: a tree of arrays ``[..., H]``.
    Returns:
        coordinates ``[..., K]``, relative to the mean state.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> states = {"h": jnp.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])}
        >>> components = lj.diagnostics.principal_components(states, 1)
        >>> abs(lj.diagnostics.project_onto(components, states)).round(3).tolist()
        [[5.0], [0.0], [5.0]]
    """
    batch_shape = jax.tree.leaves(states)[0].shape[:-1]
    coordinates = (_flatten_states(states) - components.mean[None]) @ components.components.T
    return coordinates.reshape(*batch_shape, len(components.components))


def _flatten_states(states: PyTree) -> jax.Array:
    """Flattens states to ``[N, S]``: leading axes to N, parts concatenated to S; at least float32."""
    leaves = [jnp.asarray(leaf).astype(accumulator_dtype(leaf.dtype)) for leaf in jax.tree.leaves(states)]
    return jnp.concatenate([leaf.reshape(-1, leaf.shape[-1]) for leaf in leaves], axis=-1)
