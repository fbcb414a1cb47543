"""Cells with additional inputs per time step, such as dropout masks or perturbations."""

from collections.abc import Callable
from typing import Any

from lstm_jax._core.structs import Cell, Inputs, PyTree


def with_inputs(
    cell: Cell,
    update: Callable[[PyTree, PyTree, PyTree, PyTree], tuple[PyTree, PyTree]],
    *,
    recur: Callable[[PyTree, PyTree, PyTree, PyTree], PyTree] | None = None,
    gates: Callable[[PyTree, PyTree, PyTree, PyTree], dict[str, Any]] | None = None,
) -> Cell:
    """Makes a cell that takes ``Inputs(x, per_step)`` and passes ``per_step`` to its update.

    Args:
        cell: the cell to extend, with input ``x``. If it was made by ``with_inputs`` itself, ``x`` is its ``Inputs``.
        update: replaces ``cell.update``: ``update(params, a, per_step, state) -> (state, y)``.
        recur: replaces ``cell.recur``: ``recur(params, z, per_step, state) -> a``; None means ``cell.recur``.
        gates: replaces ``cell.gates``: ``gates(params, a, per_step, state) -> gates``; None means ``cell.gates``.
    Returns:
        a cell for ``unroll``. Make it once and reuse it: ``unroll`` compiles again for every new cell.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> def noisy_update(params, a, noise, state):
        ...     state, y = lj.cells.GRU.update(params, a, state)
        ...     return state, y + noise
        >>> noisy_gru = lj.cells.with_inputs(lj.cells.GRU, noisy_update)
        >>> params = lj.cells.GRU.init(jax.random.key(0), 3, 8)
        >>> state, ys = lj.unroll(noisy_gru, params, lj.Inputs(jnp.ones((5, 3)), jnp.zeros((5, 8))))
        >>> ys.shape
        (5, 8)
    """

    def extended_recur(params: PyTree, projected: tuple[PyTree, PyTree], state: PyTree) -> tuple[PyTree, PyTree]:
        z, per_step = projected
        return cell.recur(params, z, state) if recur is None else recur(params, z, per_step, state), per_step

    def extended_gates(params: PyTree, preactivations: tuple[PyTree, PyTree], state: PyTree) -> dict[str, Any]:
        a, per_step = preactivations
        return cell.gates(params, a, state) if gates is None else gates(params, a, per_step, state)

    return cell._replace(
        project=lambda params, inputs: (cell.project(params, inputs.x), inputs.per_step),
        recur=extended_recur,
        update=lambda params, a, state: update(params, a[0], a[1], state),
        check=lambda params, inputs: cell.check(params, inputs.x if isinstance(inputs, Inputs) else inputs),
        gates=extended_gates,
    )
