"""A sequence classifier: LSTM layers over tokens or features, pooling over time, and a dense output layer.

    ys = layers(embedding[tokens])             [T, *batch, M]; for features, layers(xs)
    pooled, w = pooling of ys over time        [*batch, M] and [T, *batch], w the pooling weights
    logits = dropout(pooled) W + b             [*batch, C]

Letters: V vocabulary size, E embedding size, C classes, M width of the LSTM outputs (H, or 2H if bidirectional). The
poolings, each over the valid steps of a sequence:

    "attention"    sum over t of w_t ys_t, where w is the softmax of the     Yang et al. 2016
                   additive attention scores of one learned query
    "max"          maximum of each unit over time; w_t is the fraction of    Conneau et al. 2017, arXiv:1705.02364
                   units whose maximum is at step t
    "mean"         mean over time; w_t = 1 / length
    "last"         final output of each direction; w_t = 1 at the last valid step
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
"""The names that ``classify(pooling=...)`` accepts."""


class AttentionPoolingParams(NamedTuple):
    """Parameters of attention pooling: additive attention with one learned query."""

    scores: attention.AdditiveParams
    """additive attention with query and memory of width M"""
    query: jax.Array
    """``[M]``, shared by all sequences"""


class ClassifierParams(NamedTuple):
    """Parameters of the classifier, initialized by ``init_classifier``."""

    embedding: jax.Array | None
    """``[V, E]``; None if the inputs are features"""
    layers: tuple[Any, ...]
    """parameters of ``lstm_stack``, with E input features"""
    attention: AttentionPoolingParams | None
    """parameters of attention pooling; None without ``use_attention``"""
    head: DenseParams
    """the dense output layer, kernel ``[M, C]``"""


class ClassifierOutput(NamedTuple):
    """Class logits, and the weight of each step in the pooling."""

    logits: jax.Array
    """``[*batch, C]``"""
    pooling_weights: jax.Array
    """``[T, *batch]``; they sum to 1 over the valid steps and are 0 after the end of a sequence"""


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
    """Initializes the parameters of a classifier.

    Embeddings are normal with standard deviation 0.1.

    Args:
        key: a JAX random key.
        vocab_size: V, the number of tokens; None means that the inputs are features ``[T, *batch, E]``.
        num_classes: C, the number of classes.
        embedding_size: E, the embedding size, or the features per step if ``vocab_size`` is None.
        hidden_size: H, the hidden size of each layer and direction.
        num_layers: number of LSTM layers, at least 1.
        bidirectional: whether each layer runs in both directions.
        use_attention: whether to initialize the parameters of ``pooling="attention"``.
        dtype: dtype of the parameters; half-precision parameters are sampled in float32 and cast.
    Returns:
        ClassifierParams: the parameters for ``classify``.
    Raises:
        ValueError: if ``num_layers``, ``embedding_size`` or ``hidden_size`` is below 1.

    Example:
        >>> import jax
        >>> from lstm_jax.models import classifier
        >>> params = classifier.init_classifier(jax.random.key(0), 100, 3, embedding_size=8, hidden_size=16)
        >>> params.head.kernel.shape
        (32, 3)
    """
    keys = jax.random.split(key, 5)
    output_size = 2 * hidden_size if bidirectional else hidden_size
    attention_pooling = None
    if use_attention:
        query = jax.random.normal(keys[3], (output_size,), accumulator_dtype(dtype)).astype(dtype)
        scores = attention.init_additive(keys[2], output_size, output_size, output_size, dtype=dtype)
        attention_pooling = AttentionPoolingParams(scores, query)
    return ClassifierParams(
        embedding=None if vocab_size is None else init_embedding(keys[0], vocab_size, embedding_size, dtype),
        layers=init_stack(keys[1], embedding_size, hidden_size, num_layers, bidirectional=bidirectional, dtype=dtype),
        attention=attention_pooling,
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
    """Computes the class logits of each sequence.

    Args:
        params: parameters from ``init_classifier``.
        xs: integer tokens ``[T, *batch]``, or features ``[T, *batch, E]``; steps after the length are ignored.
        lengths: integers ``[*batch]``, the valid steps of each sequence, 0 to T. The logits of an empty sequence are
            the bias of the output layer.
        pooling: "attention", "last", "max" or "mean", as defined at the top of this module.
        key: a JAX random key; None disables dropout.
        dropout_rate: probability of dropping each element of the inputs (after embedding), of the activations between
            layers, and of the pooled vector.
    Returns:
        ClassifierOutput: class logits ``[*batch, C]`` and pooling weights ``[T, *batch]``.
    Raises:
        ValueError: if ``pooling`` is unknown, or is "attention" while ``params.attention`` is None.

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
    features = xs if params.embedding is None else params.embedding[xs]
    features = dropout(input_key, features, dropout_rate)
    between = locked_dropout_between(hidden_key, dropout_rate)
    final_states, ys = lstm_stack(params.layers, features, lengths=lengths, between=between)
    mask = lengths_to_mask(lengths, features.shape[0])
    if pooling == "last":
        weights, pooled = _pool_last(final_states[-1], mask, ys.dtype)
    elif pooling == "attention":
        weights, pooled = _pool_by_attention(params.attention, ys, mask)
    else:
        weights, pooled = _pool_max(ys, mask) if pooling == "max" else _pool_mean(ys, mask)
    logits = dense(params.head, dropout(head_key, pooled[None], dropout_rate)[0])
    return ClassifierOutput(logits, weights)


def _pool_last(final_state: PyTree, mask: jax.Array, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Returns the pooling weights ``[T, *batch]`` and the final output of each direction, joined ``[*batch, M]``."""
    is_last = mask & ~jnp.concatenate([mask[1:], jnp.zeros_like(mask[:1])])
    if isinstance(final_state, Bidirectional):
        return is_last.astype(dtype), jnp.concatenate([state.h for state in final_state], axis=-1)
    return is_last.astype(dtype), final_state.h


def _pool_by_attention(
    params: AttentionPoolingParams | None, ys: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the attention weights ``[T, *batch]`` of the learned query and its context ``[*batch, M]``."""
    if params is None:
        raise ValueError(
            'pooling: got "attention" and parameters without it, want init_classifier(..., use_attention=True)'
        )
    pooled, weights = attention.additive(params.scores, jnp.broadcast_to(params.query, ys.shape[1:]), ys, mask)
    return weights, pooled


def _pool_mean(ys: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the pooling weights ``[T, *batch]`` and the mean over valid steps ``[*batch, M]``."""
    sum_dtype = accumulator_dtype(ys.dtype)
    weights = mask.astype(sum_dtype) / jnp.maximum(mask.sum(axis=0, keepdims=True), 1).astype(sum_dtype)
    pooled = jnp.sum(ys.astype(sum_dtype) * weights[..., None], axis=0)
    return weights.astype(ys.dtype), pooled.astype(ys.dtype)


def _pool_max(ys: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the pooling weights ``[T, *batch]`` and the maximum over valid steps ``[*batch, M]``."""
    if len(ys) == 0:
        return jnp.zeros_like(mask, ys.dtype), jnp.zeros(ys.shape[1:], ys.dtype)
    has_steps = mask.any(axis=0)
    valid_ys = jnp.where(mask[..., None], ys, -jnp.inf)
    pooled = jnp.where(has_steps[..., None], jnp.max(valid_ys, axis=0), 0)
    is_max = jax.nn.one_hot(jnp.argmax(valid_ys, axis=0), ys.shape[0], axis=0, dtype=ys.dtype)
    return jnp.where(has_steps[None], is_max.mean(axis=-1), 0), pooled
