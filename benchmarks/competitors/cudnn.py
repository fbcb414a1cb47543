"""The LSTM of cuDNN by ``jax.experimental.rnn``, in float32 on NVIDIA GPUs."""

import jax
import jax.numpy as jnp
from jax.experimental import rnn

from benchmarks.competitors.layer import Layer
from lstm_jax import LSTMParams, LSTMState, interop


def layers() -> dict[str, Layer]:
    """Returns a single layer, batch first. Each call copies the weights into the flat vector that cuDNN reads."""
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
    batch_size, num_steps, input_size = xs.shape
    hidden_size = params.recurrent_kernel.shape[0]
    zeros = jnp.zeros((1, batch_size, hidden_size), xs.dtype)
    ys, _, _ = rnn.lstm(
        xs[:, ::-1] if reverse else xs,
        zeros,
        zeros,
        interop.cudnn.export_lstm((params,)),
        jnp.full(batch_size, num_steps, jnp.int32) if lengths is None else lengths,
        input_size=input_size,
        hidden_size=hidden_size,
        num_layers=1,
        dropout=0.0,
        bidirectional=False,
    )
    return ys[:, ::-1] if reverse else ys


def _step(params: LSTMParams, state: LSTMState, x: jax.Array) -> tuple[LSTMState, jax.Array]:
    raise NotImplementedError("jax.experimental.rnn has no single step")
