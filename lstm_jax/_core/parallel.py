"""Cells whose gates do not see the state, in log2 T parallel steps instead of T one after the other."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from lstm_jax._core.call import Call, check_call, complete_call, step_shapes
from lstm_jax._core.structs import ArrayLike, Cell, PyTree, SequenceOptions
from lstm_jax.cells.minimal import AffineStep


def parallel_unroll(
    cell: Cell,
    params: PyTree,
    xs: ArrayLike,
    initial_state: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: ArrayLike | None = None,
    reverse: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Runs ``cells.MIN_GRU`` or ``cells.MIN_LSTM`` by an associative scan, with the arguments and results of
    ``unroll``.

    Two steps ``h' = d_1 h + b_1`` and ``h' = d_2 h + b_2`` are one, ``h' = d_1 d_2 h + d_2 b_1 + b_2``, and this
    combination is associative. It takes more work and memory than the loop, and pays where many cores wait. A NaN that
    a step computes spreads to the row's later steps, beyond resets too.

    Args:
        cell: ``cells.MIN_GRU`` or ``cells.MIN_LSTM``.
        params: of that cell.
        xs: inputs ``[T, *batch, D]``.
        initial_state: ``[*batch, H]``; None means zeros.
        lengths: integers ``[*batch]``, 0 to T; later steps are not taken. None means all T steps.
        mask: bool ``[T, *batch]``, the steps that are taken; give at most one of lengths and mask.
        resets: bool ``[T, *batch]``, boundaries that no state crosses; None means none.
        reset_state: the state that a step after a boundary starts from; None means the zero state.
        reverse: whether each sequence is read from its last taken step to its first.
    Returns:
        (final_state ``[*batch, H]``, ys ``[T, *batch, H]``).
    Raises:
        ValueError: naming the argument; a cell whose gates see the state.
    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.cells.MIN_GRU.init(jax.random.key(0), input_size=3, hidden_size=8)
        >>> h, ys = lj.parallel_unroll(lj.cells.MIN_GRU, params, jnp.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 8)
    """
    options = SequenceOptions(lengths, mask, resets, reset_state, reverse)
    return _run(cell, reverse, check_call(cell, params, xs, initial_state, options))


@partial(jax.jit, static_argnums=(0, 1))
def _run(cell: Cell, reverse: bool, call: Call) -> tuple[jax.Array, jax.Array]:
    initial, flags, reset_state = complete_call(cell, call, reverse)
    _, y = step_shapes(cell, call, initial)
    if call.xs.shape[0] == 0:
        return initial, jnp.zeros((0, *y.shape), y.dtype)
    taken, carried = (None if flag is None else flag[..., None] for flag in flags)
    z = cell.project(call.params, call.xs if taken is None else jnp.where(taken, call.xs, 0))
    if not isinstance(z, AffineStep):
        raise ValueError("cell: got one whose gates see the state, want cells.MIN_GRU or cells.MIN_LSTM")
    (decay, increment), state = z, initial[None]
    if taken is not None:
        decay, increment = jnp.where(taken, decay, 1), jnp.where(taken, increment, 0)
    if carried is not None:
        starts = ~carried if taken is None else taken & ~carried
        decay, increment = (
            jnp.where(starts, 0, decay),
            jnp.where(starts, decay * reset_state[None] + increment, increment),
        )
        state = jnp.where(lax.cumsum(starts.astype(jnp.int32), reverse=reverse) > 0, 0, state)
    decay, increment = lax.associative_scan(_compose, (decay, increment), reverse=reverse)
    hs = decay * state + increment
    ys = hs if taken is None else jnp.where(taken, hs, 0)
    return hs[0 if reverse else -1], ys.astype(y.dtype)


def _compose(first: tuple[jax.Array, jax.Array], second: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return first[0] * second[0], second[0] * first[1] + second[1]
