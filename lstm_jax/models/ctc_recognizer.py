"""A recognizer of labels in a longer sequence of frames whose alignment is unknown: CTC (Graves et al. 2006).

    xs = each ``frame_stack`` frames joined      [T', *batch, frame_stack F], T' = ceil(T / frame_stack)
    logits = dense(layers(xs))                   [T', *batch, V]

Letters: T frames of F features each, V labels, the blank among them. ``optax.ctc_loss`` trains the model,
``decoding.ctc_greedy`` and ``decoding.ctc_beam_search`` read labels from its logits.
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
    """Parameters of the recognizer, made by ``init_ctc_recognizer``."""

    layers: tuple[Any, ...]
    """parameters of ``lstm_stack``, bidirectional; the first layer reads ``frame_stack F`` numbers a step"""
    head: DenseParams
    """``[2H, V]``, the last layer"""


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
    """Draws the parameters of a recognizer.

    Args:
        key: a JAX random key.
        num_features: F, the numbers of a frame.
        num_labels: V, the labels and the blank.
        hidden_size: H, the units of each layer and direction.
        num_layers: bidirectional LSTM layers, at least 1.
        frame_stack: the number of frames that are joined to one step of the layers.
        dtype: the dtype of the parameters; half precision is drawn in float32 and cast.
    Returns:
        CTCRecognizerParams: for ``recognize``.
    Raises:
        ValueError: ``num_layers`` or a size of the layers is below 1.

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
    key: jax.Array | None = None,
    dropout_rate: Rate = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Scores every label at each step, a step being ``frame_stack`` frames.

    Args:
        params: made by ``init_ctc_recognizer``.
        frames: ``[T, *batch, F]``; the last step is padded with zeros if T is not a multiple of ``frame_stack``.
        lengths: integers ``[*batch]``, the valid frames of each sequence, 0 to T; what follows them does not matter.
        key: a JAX random key; None means no dropout.
        dropout_rate: the probability of dropping a number between layers and before the last layer.
    Returns:
        (logits, lengths): ``[T', *batch, V]`` and integers ``[*batch]``, the steps with at least one valid frame.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import ctc_recognizer
        >>> params = ctc_recognizer.init_ctc_recognizer(jax.random.key(0), 40, 28, hidden_size=16, frame_stack=2)
        >>> logits, lengths = ctc_recognizer.recognize(params, jnp.ones((99, 2, 40)), jnp.array([99, 60]))
        >>> logits.shape, lengths.tolist()
        ((50, 2, 28), [50, 30])
    """
    hidden_key, head_key = split_key(key, 2)
    frame_stack = params.layers[0].forward.input_kernel.shape[0] // frames.shape[-1]
    frames = jnp.where(lengths_to_mask(lengths, len(frames))[..., None], frames, 0)
    frames = jnp.pad(frames, ((0, -len(frames) % frame_stack), *[(0, 0)] * (frames.ndim - 1)))
    stacks = frames.reshape(-1, frame_stack, *frames.shape[1:])
    xs = jnp.concatenate([stacks[:, offset] for offset in range(frame_stack)], axis=-1)
    lengths = -(-lengths // frame_stack)
    _, ys = lstm_stack(params.layers, xs, lengths=lengths, between=locked_dropout_between(hidden_key, dropout_rate))
    return dense(params.head, dropout(head_key, ys, dropout_rate)), lengths
