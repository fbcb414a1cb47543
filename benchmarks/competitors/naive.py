"""The LSTM as a plain ``lax.scan``, as in tutorials, with JAX's automatic derivative."""

import jax
import jax.numpy as jnp

from benchmarks.competitors.layer import Layer
from lstm_jax import LSTMParams, LSTMState


def layers() -> dict[str, Layer]:
    """Returns a single layer."""
    return {"naive scan": Layer(lambda params: params, lambda params: params, _run_sequence, _step)}


def _step(params: LSTMParams, state: LSTMState, x: jax.Array) -> tuple[LSTMState, jax.Array]:
    a = x @ params.input_kernel + state.h @ params.recurrent_kernel + params.bias
    i, f, g, o = jnp.split(a, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return LSTMState(h, c), h


def _run_sequence(
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
        new_state, y = _step(params, state, x)
        if lengths is not None:
            mask = (t < lengths)[:, None]
            new_state = jax.tree.map(lambda new, old: jnp.where(mask, new, old), new_state, state)
        return new_state, y

    return jax.lax.scan(step, LSTMState(zeros, zeros), (xs, times, resets), reverse=reverse)[1]
