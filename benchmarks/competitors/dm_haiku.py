"""Haiku: ``dynamic_unroll`` of ``LSTM``."""

import haiku
import jax
import jax.numpy as jnp

from benchmarks.competitors.layer import Layer
from lstm_jax import LSTMParams, LSTMState
from lstm_jax.structs import join_gates, split_gates


def layers() -> dict[str, Layer]:
    """One row; resets through Haiku's ``ResetCore``."""
    refuses = {"ragged": "haiku.dynamic_unroll takes no lengths"}
    return {"haiku": Layer(_pack, _unpack, _sequence, _cell, refuses)}


def _pack(params: LSTMParams) -> dict:
    """One kernel for x and h, gates in the order i, g, f, o, and 1 added to the forget gate at each step."""
    i, f, g, o = split_gates(jnp.concatenate([params.input_kernel, params.recurrent_kernel]))
    bias_i, bias_f, bias_g, bias_o = split_gates(params.bias)
    return {"w": join_gates(i, g, f, o), "b": join_gates(bias_i, bias_g, bias_f - 1, bias_o)}


def _unpack(gradient: dict) -> LSTMParams:
    i, g, f, o = split_gates(gradient["w"])
    bias_i, bias_g, bias_f, bias_o = split_gates(gradient["b"])
    hidden = gradient["b"].shape[0] // 4
    kernel = join_gates(i, f, g, o)
    return LSTMParams(kernel[:-hidden], kernel[-hidden:], join_gates(bias_i, bias_f, bias_g, bias_o))


def _sequence(
    weights: dict,
    xs: jax.Array,
    *,
    reverse: bool = False,
    lengths: None = None,
    resets: jax.Array | None = None,
) -> jax.Array:
    def run(xs: jax.Array, resets: jax.Array | None) -> jax.Array:
        core = haiku.LSTM(weights["b"].shape[0] // 4, name="lstm")
        batch = xs.shape[1] if xs.ndim == 3 else None
        if resets is None:
            return haiku.dynamic_unroll(core, xs, core.initial_state(batch), reverse=reverse)[0]
        core = haiku.ResetCore(core)
        return haiku.dynamic_unroll(core, (xs, resets), core.initial_state(batch), reverse=reverse)[0]

    return haiku.transform(run).apply({"lstm/linear": weights}, None, xs, resets)


def _cell(weights: dict, state: LSTMState, x: jax.Array) -> tuple[LSTMState, jax.Array]:
    def run(x: jax.Array, state: LSTMState) -> tuple[jax.Array, haiku.LSTMState]:
        return haiku.LSTM(state.h.shape[-1], name="lstm")(x, haiku.LSTMState(state.h, state.c))

    y, (h, c) = haiku.transform(run).apply({"lstm/linear": weights}, None, x, state)
    return LSTMState(h, c), y
