"""The LSTM as a short plain scan, as tutorials write it; plain autodiff is its derivative."""

import jax
import jax.numpy as jnp

from benchmarks.competitors.layer import Layer
from lstm_jax import LSTMParams, LSTMState


def layers() -> dict[str, Layer]:
    """One row."""
    return {"naive scan": Layer(lambda params: params, lambda params: params, _sequence, _cell)}


def _cell(params: LSTMParams, state: LSTMState, x: jax.Array) -> tuple[LSTMState, jax.Array]:
    a = x @ params.input_kernel + state.h @ params.recurrent_kernel + params.bias
    i, f, g, o = jnp.split(a, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return LSTMState(h, c), h


def _sequence(
    params: LSTMParams,
    xs: jax.Array,
    *,
    reverse: bool = False,
    lengths: jax.Array | None = None,
    resets: jax.Array | None = None,
) -> jax.Array:
    zeros = jnp.zeros((*xs.shape[1:-1], params.recurrent_kernel.shape[0]), xs.dtype)
    times = jnp.arange(xs.shape[0])

    def step(state: LSTMState, inputs: tuple) -> tuple[LSTMState, jax.Array]:
        x, t, reset = inputs
        if reset is not None:
            state = jax.tree.map(lambda leaf: jnp.where(reset[:, None], 0, leaf), state)
        new, y = _cell(params, state, x)
        if lengths is not None:
            taken = (t < lengths)[:, None]
            new = jax.tree.map(lambda after, before: jnp.where(taken, after, before), new, state)
        return new, y

    return jax.lax.scan(step, LSTMState(zeros, zeros), (xs, times, resets), reverse=reverse)[1]
