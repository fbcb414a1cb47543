"""A bidirectional LSTM that labels unaligned frames, for connectionist temporal classification (Graves et al. 2006).

    xs = groups of S consecutive frames, concatenated      [T', *batch, S F], T' = ceil(T / S)
    logits = dense(layers(xs))                             [T', *batch, V]

Letters: T frames of F features, S the ``frame_stack``, V labels including the blank. Train the model with
``optax.ctc_loss``; decode its logits with ``decoding.ctc_greedy`` or ``decoding.ctc_beam_search``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from lstm_jax._core.stack import init_stack, lstm_stack
from lstm_jax._core.steps import lengths_to_mask
from lstm_jax.models.layers import DenseParams, dense, init_dense, locked_dropout_between, split_key
from lstm_jax.regularizers import Rate, dropout


class CTCRecognizerParams(NamedTuple):
    """Parameters of the recognizer, initialized by ``init_ctc_recognizer``."""

    layers: tuple[Any, ...]
    """parameters of a bidirectional ``lstm_stack``, with S F input features"""
    head: DenseParams
    """the dense output layer, kernel ``[2H, V]``"""


def init_ctc_recognizer(
    key: jax.Array,
    num_features: int,
    num_labels: int,
    *,
    hidden_size: int = 128,
    num_layers: int = 2,
    frame_stack: int = 2,
    dtype: DTypeLike = jnp.float32,
) -> CTCRecognizerParams:
    """Initializes the parameters of a recognizer.

    Args:
        key: a JAX random key.
        num_features: F, the features per frame.
        num_labels: V, the number of labels including the blank.
        hidden_size: H, the hidden size of each layer and direction.
        num_layers: number of bidirectional LSTM layers, at least 1.
        frame_stack: S, the number of consecutive frames concatenated into one step; pass the same to ``recognize``.
        dtype: dtype of the parameters; half-precision parameters are sampled in float32 and cast.
    Returns:
        CTCRecognizerParams: the parameters for ``recognize``.
    Raises:
        ValueError: if ``num_layers``, ``num_features``, ``frame_stack`` or ``hidden_size`` is below 1.

    Example:
        >>> import jax
        >>> from lstm_jax.models import ctc_recognizer
        >>> params = ctc_recognizer.init_ctc_recognizer(jax.random.key(0), 40, 28, hidden_size=16)
        >>> params.head.kernel.shape
        (32, 28)
    """
    layers_key, head_key = jax.random.split(key)
    input_size = frame_stack * num_features
    layers = init_stack(layers_key, input_size, hidden_size, num_layers, bidirectional=True, dtype=dtype)
    return CTCRecognizerParams(layers, init_dense(head_key, 2 * hidden_size, num_labels, dtype))


def recognize(
    params: CTCRecognizerParams,
    frames: jax.Array,
    lengths: jax.Array,
    *,
    frame_stack: int = 2,
    key: jax.Array | None = None,
    dropout_rate: Rate = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Computes the label logits of each step, where a step is ``frame_stack`` consecutive frames.

    Args:
        params: parameters from ``init_ctc_recognizer``.
        frames: ``[T, *batch, F]``; zeros pad the last step if T is not a multiple of ``frame_stack``.
        lengths: integers ``[*batch]``, the valid frames of each sequence, 0 to T; frames after the length are ignored.
        frame_stack: S, the number of consecutive frames per step, as given to ``init_ctc_recognizer``.
        key: a JAX random key; None disables dropout.
        dropout_rate: probability of dropping each activation between layers and before the output layer.
    Returns:
        (logits, lengths): label logits ``[T', *batch, V]``, and integers ``[*batch]``, the steps of each sequence with
        at least one valid frame.
    Raises:
        ValueError: if ``F * frame_stack`` differs from the input size of the first layer.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import ctc_recognizer
        >>> params = ctc_recognizer.init_ctc_recognizer(jax.random.key(0), 40, 28, hidden_size=16)
        >>> logits, lengths = ctc_recognizer.recognize(params, jnp.ones((99, 2, 40)), jnp.array([99, 60]))
        >>> logits.shape, lengths.tolist()
        ((50, 2, 28), [50, 30])
    """
    hidden_key, head_key = split_key(key, 2)
    input_size, num_features = params.layers[0].forward.input_kernel.shape[0], frames.shape[-1]
    if num_features * frame_stack != input_size:
        raise ValueError(
            f"frames: got {num_features} features with frame_stack={frame_stack}, want features * frame_stack = "
            f"{input_size}, the input size of the first layer"
        )
    xs = _concatenate_frames(frames, lengths, frame_stack)
    step_lengths = -(-lengths // frame_stack)
    between = locked_dropout_between(hidden_key, dropout_rate)
    _, ys = lstm_stack(params.layers, xs, lengths=step_lengths, between=between)
    return dense(params.head, dropout(head_key, ys, dropout_rate)), step_lengths


def _concatenate_frames(frames: jax.Array, lengths: jax.Array, frame_stack: int) -> jax.Array:
    """Concatenates groups of consecutive frames ``[T, *batch, F]`` to steps ``[T', *batch, S F]``."""
    valid_frames = jnp.where(lengths_to_mask(lengths, len(frames))[..., None], frames, 0)
    padding = ((0, -len(frames) % frame_stack), *[(0, 0)] * (frames.ndim - 1))
    groups = jnp.pad(valid_frames, padding).reshape(-1, frame_stack, *frames.shape[1:])
    return jnp.concatenate([groups[:, offset] for offset in range(frame_stack)], axis=-1)
