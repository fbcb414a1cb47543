"""``implementation="cudnn"``: ``jax.experimental.rnn``, NVIDIA's LSTM as JAX ships it.

It runs one layer in one direction, in float32, whose products are TF32 unless ``jax.default_matmul_precision`` says
otherwise. It has reverse-mode derivatives of first order only; the others, and ``vmap``, are refused.
A sequence of length 0 is run as one of length 1 whose result is thrown away, since cuDNN fails on it.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental import rnn

from lstm_jax._core.implementations.spec import CallSpec
from lstm_jax._core.steps import lengths_to_mask, reading_order
from lstm_jax._core.structs import LSTMParams, LSTMState
from lstm_jax.interop.cudnn import export_lstm

MAX_STEPS = 65535


def why_not(spec: CallSpec) -> str | None:
    """Why cuDNN cannot run this call on the default device, or None if it can."""
    if jax.default_backend() != "gpu":
        return f"it runs on NVIDIA GPUs only, the default device is {jax.devices()[0].device_kind}"
    return why_not_on_a_gpu(spec)


def why_not_on_a_gpu(spec: CallSpec) -> str | None:
    """Why cuDNN cannot run this call even where there is a GPU."""
    xs = spec.xs
    if xs.dtype != jnp.float32:
        return f"jax.experimental.rnn is float32 only, xs is {xs.dtype}"
    if spec.mask is not None or spec.resets is not None:
        return f"it takes lengths, and no {'mask' if spec.mask is not None else 'resets'}"
    if spec.remat is not None:
        return "what it keeps for the backward pass is its own choice; leave out remat"
    if 0 in xs.shape:
        return f"it takes no empty arrays, xs has shape {xs.shape}"
    if xs.shape[0] > MAX_STEPS:
        return f"cuDNN takes at most {MAX_STEPS} steps, xs has {xs.shape[0]}"
    return None


def run(
    params: LSTMParams,
    xs: jax.Array,
    state: LSTMState,
    lengths: jax.Array | None,
    *,
    reverse: bool,
    rnn_lstm: Callable[..., tuple[jax.Array, jax.Array, jax.Array]] | None = None,
) -> tuple[LSTMState, jax.Array]:
    """Runs the layer by cuDNN; the arguments are complete, xs ``[T, *batch, D]``.

    Args:
        rnn_lstm: a function in the place of ``jax.experimental.rnn.lstm``, with its arguments; None means that one.
    """
    from lstm_jax._core.implementations.first_order import first_order  # here: jax.extend is slow to import

    params, xs, state, lengths = first_order((params, xs, state, lengths), "cudnn")
    time, *batch, input_size = xs.shape
    hidden_size = params.bias.shape[0] // 4
    xs = xs.reshape(time, -1, input_size)
    start = jax.tree.map(lambda leaf: leaf.reshape(-1, hidden_size), state)
    lengths = jnp.full(xs.shape[1], time, jnp.int32) if lengths is None else jnp.asarray(lengths).reshape(-1)
    lengths = jnp.clip(lengths.astype(jnp.int32), 0, time)
    taken = lengths_to_mask(lengths, time)[..., None]
    order = partial(reading_order, lengths=lengths) if reverse else lambda array: array
    ys, h, c = _call_binding(
        rnn_lstm or rnn.lstm,
        order(jnp.where(taken, xs, 0)),
        start,
        export_lstm((params,)),
        jnp.maximum(lengths, 1),
    )
    ys = jnp.where(taken, order(ys), 0).reshape(time, *batch, hidden_size)
    final = jax.tree.map(lambda new, old: jnp.where(lengths[:, None] > 0, new, old), LSTMState(h, c), start)
    return first_order((jax.tree.map(lambda leaf: leaf.reshape(*batch, hidden_size), final), ys), "cudnn")


def _call_binding(
    rnn_lstm: Callable[..., tuple[jax.Array, jax.Array, jax.Array]],
    xs: jax.Array,
    state: LSTMState,
    weights: jax.Array,
    lengths: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Calls the binding, which takes the batch first: ys ``[T, B, H]``, final h and c."""
    ys, h, c = rnn_lstm(
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
