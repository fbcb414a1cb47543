"""Runs ``jax.experimental.rnn``, the LSTM of cuDNN, in float32 on NVIDIA GPUs."""

import jax
import jax.numpy as jnp
from jax.experimental import rnn

from benchmarks.competitors.layer import Layer
from lstm_jax import LSTMParams, LSTMState, interop


def layers() -> dict[str, Layer]:
    """Returns one row, batch first. Each call copies the weights into the single vector that cuDNN takes."""
    if jax.default_backend() != "gpu":
        raise NotImplementedError("cuDNN runs on NVIDIA GPUs only")
    unsupported = {
        "resets": "jax.experimental.rnn takes no resets",
        "stepwise": "jax.experimental.rnn has no single step",
        "per-example": "jax.experimental.rnn has no batching rule",
        "hvp": "jax.experimental.rnn has no second derivative",
    }
    return {
        "jax.experimental.rnn": Layer(
            lambda params: params, lambda params: params, _run_sequence, _step, unsupported, batch_first=True
        )
    }


def _run_sequence(
    params: LSTMParams,
    xs: jax.Array,
    *,
    reverse: bool = False,
    lengths: jax.Array | None = None,
    resets: None = None,
) -> jax.Array:
    batch, time, input_size = xs.shape
    hidden_size = params.recurrent_kernel.shape[0]
    zeros = jnp.zeros((1, batch, hidden_size), xs.dtype)
    lengths = jnp.full(batch, time, jnp.int32) if lengths is None else lengths
    xs = xs[:, ::-1] if reverse else xs
    ys, _, _ = rnn.lstm(
        xs,
        zeros,
        zeros,
        interop.cudnn.export_lstm((params,)),
        lengths,
        input_size=input_size,
        hidden_size=hidden_size,
        num_layers=1,
        dropout=0.0,
        bidirectional=False,
    )
    return ys[:, ::-1] if reverse else ys


def _step(params: LSTMParams, state: LSTMState, x: jax.Array) -> tuple[LSTMState, jax.Array]:
    raise NotImplementedError("jax.experimental.rnn has no single step")
