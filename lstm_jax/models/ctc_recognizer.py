"""Recognises labels in a longer sequence of frames, with no word on where they are: CTC (Graves et al. 2006).

    xs = each `stacked` frames side by side      [T / stacked, *batch, stacked F]
    logits = dense(layers(xs))                   [T / stacked, *batch, V], V labels with the blank

Training is ``optax.ctc_loss``, decoding ``lstm_jax.decoding.ctc``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.stack import init_stack, lstm_stack
from lstm_jax._core.steps import lengths_to_mask
from lstm_jax.models.layers import DenseParams, dense, dropout, init_dense, locked_dropout_between, split_key


class CTCRecognizerParams(NamedTuple):
    """Parameters of the recogniser."""

    layers: tuple[Any, ...]
    """of ``lstm_stack``, both ways; the first reads ``stacked F`` numbers"""
    head: DenseParams
    """``[2H, V]``"""


def init_ctc_recognizer(
    key: jax.Array,
    num_features: int,
    num_labels: int,
    *,
    hidden_size: int = 128,
    num_layers: int = 2,
    frame_stack: int = 2,
    dtype: jnp.dtype = jnp.float32,
) -> CTCRecognizerParams:
    """Draws the parameters; ``labels`` counts the blank."""
    below, above = jax.random.split(key)
    layers = init_stack(below, frame_stack * num_features, hidden_size, num_layers, bidirectional=True, dtype=dtype)
    return CTCRecognizerParams(layers, init_dense(above, 2 * hidden_size, num_labels, dtype))


def recognize(
    params: CTCRecognizerParams,
    frames: jax.Array,
    lengths: jax.Array,
    *,
    key: jax.Array | None = None,
    dropout_rate: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """(logits ``[T', *batch, V]``, their lengths ``[*batch]``).

    Args:
        frames: ``[T, *batch, F]``; a last stack that is not full is filled up with 0.
        lengths: ``[*batch]``, frames that are there; a stack that has one is there.
        key: None means no dropout.
        rate: of dropout, between layers and before the last one.
    """
    between, behind = split_key(key, 2)
    stacked = params.layers[0].forward.input_kernel.shape[0] // frames.shape[-1]
    frames = jnp.where(lengths_to_mask(lengths, len(frames))[..., None], frames, 0)
    frames = jnp.pad(frames, ((0, -len(frames) % stacked), *[(0, 0)] * (frames.ndim - 1)))
    parts = frames.reshape(-1, stacked, *frames.shape[1:])
    xs = jnp.concatenate([parts[:, place] for place in range(stacked)], axis=-1)
    lengths = -(-lengths // stacked)
    _, ys = lstm_stack(params.layers, xs, lengths=lengths, between=locked_dropout_between(between, dropout_rate))
    return dense(params.head, dropout(behind, ys, dropout_rate)), lengths
