"""``jax.experimental.rnn``: the LSTM of cuDNN, float32, on NVIDIA GPUs."""

import jax
import jax.numpy as jnp
from jax.experimental import rnn

from benchmarks.competitors.layer import Layer
from lstm_jax import LSTMParams, LSTMState, interop


def layers() -> dict[str, Layer]:
    """One row, batch first. Its single vector of weights is put together in each call, which is a copy of them."""
    if jax.default_backend() != "gpu":
        raise NotImplementedError("cuDNN runs on NVIDIA GPUs only")
    refuses = {
        "resets": "jax.experimental.rnn takes no resets",
        "stepwise": "jax.experimental.rnn has no single step",
        "per-example": "jax.experimental.rnn has no batching rule",
        "hvp": "jax.experimental.rnn has no second derivative",
    }
    return {
        "jax.experimental.rnn": Layer(
            lambda params: params, lambda params: params, _sequence, _cell, refuses, batch_first=True
        )
    }


def _sequence(
    params: LSTMParams,
    xs: jax.Array,
    *,
    reverse: bool = False,
    lengths: jax.Array | None = None,
    resets: None = None,
) -> jax.Array:
    batch, time, inputs = xs.shape
    hidden = params.recurrent_kernel.shape[0]
    zeros = jnp.zeros((1, batch, hidden), xs.dtype)
    lengths = jnp.full(batch, time, jnp.int32) if lengths is None else lengths
    xs = xs[:, ::-1] if reverse else xs
    ys, _, _ = rnn.lstm(
        xs,
        zeros,
        zeros,
        interop.cudnn.export_lstm((params,)),
        lengths,
        input_size=inputs,
        hidden_size=hidden,
        num_layers=1,
        dropout=0.0,
        bidirectional=False,
    )
    return ys[:, ::-1] if reverse else ys


def _cell(params: LSTMParams, state: LSTMState, x: jax.Array) -> tuple[LSTMState, jax.Array]:
    raise NotImplementedError("jax.experimental.rnn has no single step")
