"""Flax linen's ``RNN`` with ``LSTMCell`` and ``OptimizedLSTMCell``."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen

from benchmarks.competitors.layer import Layer
from lstm_jax import LSTMState, interop


def layers() -> dict[str, Layer]:
    """Returns a layer per cell. Both store one kernel per gate; ``OptimizedLSTMCell`` joins them in each call."""
    cells = {"flax linen LSTMCell": linen.LSTMCell, "flax linen OptimizedLSTMCell": linen.OptimizedLSTMCell}
    return {
        name: Layer(
            lambda params: {"params": {"cell": interop.linen.export_lstm(params)}},
            interop.linen.import_lstm,
            partial(_run_sequence, cell),
            partial(_step, cell),
            unsupported={"resets": "flax linen's RNN takes no resets"},
        )
        for name, cell in cells.items()
    }


def _hidden_size(variables: dict) -> int:
    """Returns H, read from the shape of a bias."""
    return variables["params"]["cell"]["hi"]["bias"].shape[0]


def _run_sequence(
    cell: type,
    variables: dict,
    xs: jax.Array,
    *,
    reverse: bool = False,
    lengths: jax.Array | None = None,
    resets: None = None,
) -> jax.Array:
    layer = linen.RNN(cell(_hidden_size(variables)), time_major=True, reverse=reverse, keep_order=True)
    return jnp.asarray(layer.apply(variables, xs, seq_lengths=lengths))


def _step(cell: type, variables: dict, state: LSTMState, x: jax.Array) -> tuple[LSTMState, jax.Array]:
    cell_module = cell(_hidden_size(variables))
    (c, h), y = cell_module.apply({"params": variables["params"]["cell"]}, (state.c, state.h), x)
    return LSTMState(h, jnp.asarray(c)), y
