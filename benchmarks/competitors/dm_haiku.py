"""Haiku's ``LSTM`` with ``dynamic_unroll``."""

import haiku
import jax
import jax.numpy as jnp

from benchmarks.competitors.layer import Layer
from lstm_jax import LSTMParams, LSTMState, interop


def layers() -> dict[str, Layer]:
    """Returns a single layer, with Haiku's ``ResetCore`` for resets."""
    unsupported = {"ragged": "haiku.dynamic_unroll takes no lengths"}
    return {"haiku": Layer(interop.haiku.export_lstm, _import_params, _run_sequence, _step, unsupported)}


def _import_params(gradient: dict) -> LSTMParams:
    """Converts a gradient to ``LSTMParams``.

    ``import_lstm`` adds Haiku's offset of 1 to the forget bias; its JVP does not.
    """
    zeros = jax.tree.map(jnp.zeros_like, gradient)
    return jax.jvp(interop.haiku.import_lstm, (zeros,), (gradient,))[1]


def _run_sequence(
    weights: dict,
    xs: jax.Array,
    *,
    reverse: bool = False,
    lengths: None = None,
    resets: jax.Array | None = None,
) -> jax.Array:
    def run(xs: jax.Array, resets: jax.Array | None) -> jax.Array:
        core = haiku.LSTM(weights["b"].shape[0] // 4, name="lstm")
        batch_size = xs.shape[1] if xs.ndim == 3 else None
        if resets is None:
            return haiku.dynamic_unroll(core, xs, core.initial_state(batch_size), reverse=reverse)[0]
        reset_core = haiku.ResetCore(core)
        return haiku.dynamic_unroll(reset_core, (xs, resets), reset_core.initial_state(batch_size), reverse=reverse)[0]

    return haiku.transform(run).apply({"lstm/linear": weights}, None, xs, resets)


def _step(weights: dict, state: LSTMState, x: jax.Array) -> tuple[LSTMState, jax.Array]:
    def run(x: jax.Array, state: LSTMState) -> tuple[jax.Array, haiku.LSTMState]:
        return haiku.LSTM(state.h.shape[-1], name="lstm")(x, haiku.LSTMState(state.h, state.c))

    y, (h, c) = haiku.transform(run).apply({"lstm/linear": weights}, None, x, state)
    return LSTMState(h, c), y
