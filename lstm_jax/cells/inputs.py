"""Cells that read more at each step than their input: the masks of a regularizer, perturbations, a user's own."""

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
    """Makes a cell that reads ``Inputs(x, per_step)`` and gets ``per_step`` in its update.

    Args:
        cell: the cell that reads ``x``; it may itself come from ``with_inputs``, and ``x`` then is its ``Inputs``.
        update: ``update(params, a, per_step, state) -> (state, y)`` in the place of ``cell.update``.
        recur: ``recur(params, z, per_step, state) -> a`` in the place of ``cell.recur``; None means that it does not
            read ``per_step``.
        gates: ``gates(params, a, per_step, state)`` in the place of ``cell.gates``; likewise.
    Returns:
        a cell for ``unroll``. Make it once: its identity is part of what is compiled.

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

    def joined_recur(params: PyTree, z: tuple[PyTree, PyTree], state: PyTree) -> tuple[PyTree, PyTree]:
        z, per_step = z
        return cell.recur(params, z, state) if recur is None else recur(params, z, per_step, state), per_step

    def joined_gates(params: PyTree, a: tuple[PyTree, PyTree], state: PyTree) -> dict[str, Any]:
        a, per_step = a
        return cell.gates(params, a, state) if gates is None else gates(params, a, per_step, state)

    return cell._replace(
        project=lambda params, inputs: (cell.project(params, inputs.x), inputs.per_step),
        recur=joined_recur,
        update=lambda params, a, state: update(params, a[0], a[1], state),
        check=lambda params, inputs: cell.check(params, inputs.x if isinstance(inputs, Inputs) else inputs),
        gates=joined_gates,
    )
