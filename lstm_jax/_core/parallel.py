"""Cells whose gates do not see the state, in log2 T parallel steps instead of T one after the other."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from lstm_jax._core.sequence import Call, check_call, complete, step_shapes
from lstm_jax._core.structs import Cell, PyTree
from lstm_jax.cells.minimal import Linear


def parallel_unroll(
    cell: Cell,
    params: PyTree,
    xs: jax.Array,
    initial_state: jax.Array | None = None,
    *,
    lengths: jax.Array | None = None,
    mask: jax.Array | None = None,
    resets: jax.Array | None = None,
    reset_state: jax.Array | None = None,
    reverse: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """``unroll`` for ``cells.MIN_GRU`` and ``cells.MIN_LSTM`` by an associative scan, with its arguments and results.

    Two steps ``h' = d_1 h + b_1`` and ``h' = d_2 h + b_2`` are one, ``h' = d_1 d_2 h + d_2 b_1 + b_2``, and this
    combination is associative. It takes more work and memory than the loop, and pays where many cores wait. A NaN that
    a step computes spreads to the row's later steps, beyond resets too.
    """
    call = check_call(cell, params, xs, initial_state, lengths, mask, resets, reset_state, reverse)
    return _run(cell, reverse, call)


@partial(jax.jit, static_argnums=(0, 1))
def _run(cell: Cell, reverse: bool, call: Call) -> tuple[jax.Array, jax.Array]:
    initial, steps, reset_state = complete(cell, call, reverse)
    _, y = step_shapes(cell, call)
    if call.xs.shape[0] == 0:
        return initial, jnp.zeros((0, *y.shape), y.dtype)
    taken, carried = (None if flags is None else flags[..., None] for flags in steps)
    z = cell.project(call.params, call.xs if taken is None else jnp.where(taken, call.xs, 0))
    if not isinstance(z, Linear):
        raise ValueError("cell: got one whose gates see the state, want cells.MIN_GRU or cells.MIN_LSTM")
    (decay, inflow), state = z, initial[None]
    if taken is not None:
        decay, inflow = jnp.where(taken, decay, 1), jnp.where(taken, inflow, 0)
    if carried is not None:
        fresh = ~carried if taken is None else taken & ~carried
        decay, inflow = jnp.where(fresh, 0, decay), jnp.where(fresh, decay * reset_state[None] + inflow, inflow)
        state = jnp.where(lax.cumsum(fresh.astype(jnp.int32), reverse=reverse) > 0, 0, state)
    decay, inflow = lax.associative_scan(_join, (decay, inflow), reverse=reverse)
    hs = decay * state + inflow
    ys = hs if taken is None else jnp.where(taken, hs, 0)
    return hs[0 if reverse else -1], ys.astype(y.dtype)


def _join(first: tuple[jax.Array, jax.Array], second: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return first[0] * second[0], second[0] * first[1] + second[1]
