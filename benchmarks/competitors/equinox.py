"""Equinox's ``LSTMCell`` in a ``scan`` under ``vmap`` over the batch, as in its documentation."""

import equinox
import jax
import jax.numpy as jnp

from benchmarks.competitors.layer import Layer
from lstm_jax import LSTMParams, LSTMState, interop


def layers() -> dict[str, Layer]:
    """Returns a single layer."""
    reason = "equinox has a cell only; users write the scan"
    unsupported = {"ragged": reason, "resets": reason}
    return {"equinox": Layer(_export_params, interop.equinox.import_lstm, _run_sequence, _step, unsupported)}


def _export_params(params: LSTMParams) -> equinox.nn.LSTMCell:
    input_size, hidden_size = params.input_kernel.shape[0], params.recurrent_kernel.shape[0]
    cell = equinox.nn.LSTMCell(input_size, hidden_size, key=jax.random.key(0))
    where = lambda cell: (cell.weight_ih, cell.weight_hh, cell.bias)  # noqa: E731
    return equinox.tree_at(where, cell, interop.equinox.export_lstm(params))


def _run_sequence(
    cell: equinox.nn.LSTMCell, xs: jax.Array, *, reverse: bool = False, lengths: None = None, resets: None = None
) -> jax.Array:
    def run(xs: jax.Array) -> jax.Array:
        def step(state: tuple, x: jax.Array) -> tuple[tuple, jax.Array]:
            state = cell(x, state)
            return state, state[0]

        zeros = jnp.zeros(cell.hidden_size)
        return jax.lax.scan(step, (zeros, zeros), xs, reverse=reverse)[1]

    return run(xs) if xs.ndim == 2 else jax.vmap(run, 1, 1)(xs)


def _step(cell: equinox.nn.LSTMCell, state: LSTMState, x: jax.Array) -> tuple[LSTMState, jax.Array]:
    h, c = jax.vmap(cell)(x, (state.h, state.c))
    return LSTMState(h, c), h
