"""Flax NNX's ``RNN`` with ``OptimizedLSTMCell``."""

import jax
from flax import nnx

from benchmarks.competitors.layer import Layer
from lstm_jax import LSTMState, interop


def layers() -> dict[str, Layer]:
    """Returns a single layer, which rebuilds its module from the weights by ``nnx.split`` and ``nnx.merge``."""
    unsupported = {"resets": "flax nnx's RNN takes no resets"}
    return {"flax nnx": Layer(interop.nnx.export_lstm, interop.nnx.import_lstm, _run_sequence, _step, unsupported)}


def _make_cell(weights: dict) -> nnx.OptimizedLSTMCell:
    """Makes a cell with given weights, without drawing others."""
    input_size, hidden_size = weights["dense_i"]["kernel"].shape[0], weights["dense_h"]["kernel"].shape[0]
    cell = nnx.eval_shape(lambda: nnx.OptimizedLSTMCell(input_size, hidden_size, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(cell)
    nnx.replace_by_pure_dict(state, weights)
    return nnx.merge(graph, state)


def _run_sequence(
    weights: dict,
    xs: jax.Array,
    *,
    reverse: bool = False,
    lengths: jax.Array | None = None,
    resets: None = None,
) -> jax.Array:
    layer = nnx.RNN(_make_cell(weights), time_major=True, reverse=reverse, keep_order=True, rngs=nnx.Rngs(0))
    return layer(xs, seq_lengths=lengths)


def _step(weights: dict, state: LSTMState, x: jax.Array) -> tuple[LSTMState, jax.Array]:
    (c, h), y = _make_cell(weights)((state.c, state.h), x)
    return LSTMState(h, c), y
