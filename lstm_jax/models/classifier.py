"""A classifier of sequences of tokens or features: LSTM layers, pooling over time, a dense layer.

    ys = layers(embedding[tokens])             [T, *batch, M]; for features, layers(xs)
    pooled = sum over t of w_t * ys_t          [*batch, M], w the pooling weights
    logits = dropout(pooled) W + b             [*batch, C]

Letters: V tokens of the vocabulary, E the embedding's size, C classes, M the width of the layers' outputs: H, or 2H if
they are bidirectional. Four poolings:

    "attention"    w = softmax of additive scores of one learned query       Yang et al. 2016
    "max"          the largest output of each unit; w_t the share of units   Conneau et al. 2017, arXiv:1705.02364
                   whose largest output is at step t
    "mean"         w_t = 1 / length
    "last"         the last output of each direction; w_t = 1 at the last valid step
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from lstm_jax import attention
from lstm_jax._core.checks import check_name
from lstm_jax._core.stack import init_stack, lstm_stack
from lstm_jax._core.steps import lengths_to_mask
from lstm_jax._core.structs import Bidirectional, PyTree, accumulator_dtype
from lstm_jax.models.layers import DenseParams, dense, init_dense, init_embedding, locked_dropout_between, split_key
from lstm_jax.regularizers import Rate, dropout

POOLINGS = ("attention", "last", "max", "mean")
"""The names that ``classify(pooling=...)`` takes."""


class AttentionPoolingParams(NamedTuple):
    """Parameters of pooling by attention: what one learned query finds relevant."""

    scores: attention.AdditiveParams
    """of additive attention, query and memory of width M"""
    query: jax.Array
    """``[M]``, the same for all sequences"""


class ClassifierParams(NamedTuple):
    """Parameters of the classifier, made by ``init_classifier``."""

    embedding: jax.Array | None
    """``[V, E]``; None if the inputs are features"""
    layers: tuple[Any, ...]
    """parameters of ``lstm_stack``, which reads E numbers a step"""
    attention: AttentionPoolingParams | None
    """None if the parameters were made without ``use_attention``"""
    head: DenseParams
    """``[M, C]``, the last layer"""


class ClassifierOutput(NamedTuple):
    """Logits of a batch of sequences, and how much each step contributed to them."""

    logits: jax.Array
    """``[*batch, C]``"""
    pooling_weights: jax.Array
    """``[T, *batch]``; they sum to 1 over time, and are 0 after the end of a sequence"""


def init_classifier(
    key: jax.Array,
    vocab_size: int | None,
    num_classes: int,
    *,
    embedding_size: int = 128,
    hidden_size: int = 128,
    num_layers: int = 1,
    bidirectional: bool = True,
    use_attention: bool = False,
    dtype: DTypeLike = jnp.float32,
) -> ClassifierParams:
    """Draws the parameters of a classifier; embeddings are normal with standard deviation 0.1.

    Args:
        key: a JAX random key.
        vocab_size: V, the number of tokens; None means that the inputs are features, ``embedding_size`` of them a step.
        num_classes: C.
        embedding_size: E, the size of an embedded token, or the number of features.
        hidden_size: H, the units of each layer and direction.
        num_layers: LSTM layers, at least 1.
        bidirectional: whether each layer reads in both directions.
        use_attention: whether to draw parameters for ``pooling="attention"``.
        dtype: the dtype of the parameters; half precision is drawn in float32 and cast.
    Returns:
        ClassifierParams: for ``classify``.
    Raises:
        ValueError: ``num_layers`` or a size of the layers is below 1.

    Example:
        >>> import jax
        >>> from lstm_jax.models import classifier
        >>> params = classifier.init_classifier(jax.random.key(0), 100, 3, embedding_size=8, hidden_size=16)
        >>> params.head.kernel.shape
        (32, 3)
    """
    keys = jax.random.split(key, 5)
    output_size = 2 * hidden_size if bidirectional else hidden_size
    pooling_by_attention = None
    if use_attention:
        query = jax.random.normal(keys[3], (output_size,), accumulator_dtype(dtype)).astype(dtype)
        scores = attention.init_additive(keys[2], output_size, output_size, output_size, dtype=dtype)
        pooling_by_attention = AttentionPoolingParams(scores, query)
    return ClassifierParams(
        embedding=None if vocab_size is None else init_embedding(keys[0], vocab_size, embedding_size, dtype),
        layers=init_stack(keys[1], embedding_size, hidden_size, num_layers, bidirectional=bidirectional, dtype=dtype),
        attention=pooling_by_attention,
        head=init_dense(keys[4], output_size, num_classes, dtype),
    )


def classify(
    params: ClassifierParams,
    xs: jax.Array,
    lengths: jax.Array,
    *,
    pooling: str = "max",
    key: jax.Array | None = None,
    dropout_rate: Rate = 0.0,
) -> ClassifierOutput:
    """Scores every class for each sequence.

    Args:
        params: made by ``init_classifier``.
        xs: tokens, integers ``[T, *batch]``, or features ``[T, *batch, E]``; what follows the end of a sequence does
            not matter.
        lengths: integers ``[*batch]``, 0 to T; the logits of an empty sequence are the bias of the last layer.
        pooling: "attention", "last", "max" or "mean"; the module's docstring defines them.
        key: a JAX random key; None means no dropout.
        dropout_rate: the probability of dropping a number of the embedded inputs, between layers, and before the last
            layer.
    Returns:
        ClassifierOutput: logits ``[*batch, C]`` of the C classes, and pooling weights ``[T, *batch]``.
    Raises:
        ValueError: an unknown pooling, or "attention" with parameters made without it.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import classifier
        >>> params = classifier.init_classifier(jax.random.key(0), 100, 3, embedding_size=8, hidden_size=16)
        >>> tokens, lengths = jnp.ones((7, 2), int), jnp.array([7, 4])
        >>> logits, weights = classifier.classify(params, tokens, lengths, pooling="mean")
        >>> logits.shape, weights.shape
        ((2, 3), (7, 2))
    """
    check_name("pooling", pooling, POOLINGS)
    input_key, hidden_key, head_key = split_key(key, 3)
    xs = dropout(input_key, xs if params.embedding is None else params.embedding[xs], dropout_rate)
    between = locked_dropout_between(hidden_key, dropout_rate)
    final_states, ys = lstm_stack(params.layers, xs, lengths=lengths, between=between)
    mask = lengths_to_mask(lengths, xs.shape[0])
    if pooling == "last":
        weights, pooled = _pool_last(final_states[-1], mask, ys.dtype)
    elif pooling == "attention":
        weights, pooled = _pool_by_attention(params.attention, ys, mask)
    else:
        weights, pooled = _pool_max(ys, mask) if pooling == "max" else _pool_mean(ys, mask)
    return ClassifierOutput(dense(params.head, dropout(head_key, pooled[None], dropout_rate)[0]), weights)


def _pool_last(final_state: PyTree, mask: jax.Array, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Pools to the last output of each direction: (weights ``[T, *batch]``, pooled ``[*batch, M]``)."""
    is_last = mask & ~jnp.concatenate([mask[1:], jnp.zeros_like(mask[:1])])
    if isinstance(final_state, Bidirectional):
        return is_last.astype(dtype), jnp.concatenate([state.h for state in final_state], axis=-1)
    return is_last.astype(dtype), final_state.h


def _pool_by_attention(
    params: AttentionPoolingParams | None, ys: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Pools by the learned query's attention: (weights ``[T, *batch]``, pooled ``[*batch, M]``)."""
    if params is None:
        raise ValueError(
            'pooling: got "attention" and parameters without it, want init_classifier(..., use_attention=True)'
        )
    pooled, weights = attention.additive(params.scores, jnp.broadcast_to(params.query, ys.shape[1:]), ys, mask)
    return weights, pooled


def _pool_mean(ys: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pools to the mean over valid steps: (weights ``[T, *batch]``, pooled ``[*batch, M]``)."""
    sum_dtype = accumulator_dtype(ys.dtype)
    weights = mask.astype(sum_dtype) / jnp.maximum(mask.sum(axis=0, keepdims=True), 1).astype(sum_dtype)
    pooled = jnp.sum(ys.astype(sum_dtype) * weights[..., None], axis=0)
    return weights.astype(ys.dtype), pooled.astype(ys.dtype)


def _pool_max(ys: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pools to each unit's maximum over valid steps: (weights ``[T, *batch]``, pooled ``[*batch, M]``)."""
    if len(ys) == 0:
        return jnp.zeros_like(mask, ys.dtype), jnp.zeros(ys.shape[1:], ys.dtype)
    has_steps = mask.any(axis=0)
    valid_ys = jnp.where(mask[..., None], ys, -jnp.inf)
    pooled = jnp.where(has_steps[..., None], jnp.max(valid_ys, axis=0), 0)
    is_max = jax.nn.one_hot(jnp.argmax(valid_ys, axis=0), ys.shape[0], axis=0, dtype=ys.dtype)
    return jnp.where(has_steps[None], is_max.mean(axis=-1), 0), pooled
