"""``implementation="cudnn"``: ``jax.experimental.rnn``, NVIDIA's LSTM as JAX ships it.

One layer in one direction, in float32, whose products are TF32 unless ``jax.default_matmul_precision`` says otherwise.
Reverse-mode derivatives of first order only; the others, and ``vmap``, are refused.
A sequence of length 0 is run as one of length 1 whose result is thrown away, since cuDNN fails on it.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import rnn

from lstm_jax._core.steps import lengths_to_mask, reading_order
from lstm_jax._core.structs import LSTMParams, LSTMState
from lstm_jax.interop.cudnn import export_lstm

MOST_STEPS = 65535
PLATFORM = "gpu"
"""Where it runs; tests put the library's own reference in its place elsewhere."""


def why_not(xs: jax.Array, *, mask: Any, resets: Any, remat: Any) -> str | None:
    """Why cuDNN cannot run this call on the default device, or None if it can."""
    if jax.default_backend() != PLATFORM:
        return f"it runs on NVIDIA GPUs only, the default device is {jax.devices()[0].device_kind}"
    if xs.dtype != jnp.float32:
        return f"jax.experimental.rnn is float32 only, xs is {xs.dtype}"
    if mask is not None or resets is not None:
        return f"it takes lengths, and no {'mask' if mask is not None else 'resets'}"
    if remat is not None:
        return "what it keeps for the backward pass is its own choice; leave out remat"
    if 0 in xs.shape:
        return f"it takes no empty arrays, xs has shape {xs.shape}"
    if xs.shape[0] > MOST_STEPS:
        return f"cuDNN takes {MOST_STEPS} steps at most, xs has {xs.shape[0]}"
    return None


def run(
    params: LSTMParams, xs: jax.Array, initial_state: LSTMState, lengths: jax.Array | None, *, reverse: bool
) -> tuple[LSTMState, jax.Array]:
    """As ``lstm``, of complete arguments: xs ``[T, *batch, D]``."""
    from lstm_jax._core.implementations.first_order import first_order  # here: jax.extend is slow to import

    params, xs, initial_state, lengths = first_order((params, xs, initial_state, lengths), "cudnn")
    time, *batch, inputs = xs.shape
    units = params.bias.shape[0] // 4
    xs = xs.reshape(time, -1, inputs)
    state = jax.tree.map(lambda leaf: leaf.reshape(-1, units), initial_state)
    lengths = jnp.full(xs.shape[1], time, jnp.int32) if lengths is None else jnp.asarray(lengths).reshape(-1)
    lengths = jnp.clip(lengths.astype(jnp.int32), 0, time)
    taken = lengths_to_mask(lengths, time)[..., None]
    order = partial(reading_order, lengths=lengths) if reverse else lambda array: array
    ys, h, c = _call(order(jnp.where(taken, xs, 0)), state, export_lstm((params,)), jnp.maximum(lengths, 1))
    ys = jnp.where(taken, order(ys), 0).reshape(time, *batch, units)
    final = jax.tree.map(lambda new, old: jnp.where(lengths[:, None] > 0, new, old), LSTMState(h, c), state)
    return first_order((jax.tree.map(lambda leaf: leaf.reshape(*batch, units), final), ys), "cudnn")


def _call(
    xs: jax.Array, state: LSTMState, weights: jax.Array, lengths: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The binding's own call, which takes the batch first: ys ``[T, B, H]``, final h and c."""
    ys, h, c = rnn.lstm(
        jnp.swapaxes(xs, 0, 1),
        state.h[None],
        state.c[None],
        weights,
        lengths,
        input_size=xs.shape[-1],
        hidden_size=state.h.shape[-1],
        num_layers=1,
        dropout=0.0,
        bidirectional=False,
    )
    return jnp.swapaxes(ys, 0, 1), h[0], c[0]
