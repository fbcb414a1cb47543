"""Classifies sequences of tokens or of features: LSTM layers in both directions, pooling over time, a dense layer.

    ys = layers(embedding[codes])              [T, *batch, M]; of features, layers(xs)
    pooled = sum over t of weights_t * ys_t    [*batch, M]
    logits = dropout(pooled) W + b             [*batch, C]

"attention" has one learned query (Yang et al. 2016); "max" takes each unit's largest output, and its weights are the
share of units that each step won (Conneau et al. 2017, arXiv:1705.02364); "mean" weighs all steps alike; "last" is what
each direction says having read all.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax import attention
from lstm_jax._core.checks import check_name
from lstm_jax._core.stack import init_stack, lstm_stack
from lstm_jax._core.steps import lengths_to_mask
from lstm_jax._core.structs import Bidirectional, accumulator_dtype
from lstm_jax.models.layers import (
    DenseParams,
    dense,
    dropout,
    init_dense,
    init_embedding,
    locked_dropout_between,
    split_key,
)

POOLINGS = ("attention", "last", "max", "mean")


class ClassifierParams(NamedTuple):
    """Parameters of the classifier."""

    embedding: jax.Array | None
    """``[V, E]``; None means that inputs are features"""
    layers: tuple[Any, ...]
    """of ``lstm_stack``"""
    attention: tuple[attention.AdditiveParams, jax.Array] | None
    """its scores and the query ``[M]``; None unless pooling is "attention\""""
    head: DenseParams
    """``[M, C]``"""


class ClassifierOutput(NamedTuple):
    """Scores of the classes, and how much each step had to say."""

    logits: jax.Array
    """``[*batch, C]``"""
    weights: jax.Array
    """``[T, *batch]``; they add up to 1, and are 0 behind the length"""


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
    dtype: jnp.dtype = jnp.float32,
) -> ClassifierParams:
    """Draws the parameters; embeddings normal with deviation 0.1.

    Args:
        vocabulary: V; None means that inputs are features, ``embedding_size`` of them.
        attends: whether there are parameters for pooling by "attention".
    """
    keys = jax.random.split(key, 5)
    width = 2 * hidden_size if bidirectional else hidden_size
    query = jax.random.normal(keys[3], (width,), accumulator_dtype(dtype))
    return ClassifierParams(
        None if vocab_size is None else init_embedding(keys[0], vocab_size, embedding_size, dtype),
        init_stack(keys[1], embedding_size, hidden_size, num_layers, bidirectional=bidirectional, dtype=dtype),
        (attention.init_additive(keys[2], width, width, width, dtype=dtype), query.astype(dtype))
        if use_attention
        else None,
        init_dense(keys[4], width, num_classes, dtype),
    )


def classify(
    params: ClassifierParams,
    xs: jax.Array,
    lengths: jax.Array,
    *,
    pooling: str = "max",
    key: jax.Array | None = None,
    dropout_rate: float = 0.0,
) -> ClassifierOutput:
    """Scores of each class for each sequence.

    Args:
        xs: integers ``[T, *batch]``, or features ``[T, *batch, E]``; anything behind the lengths.
        lengths: integers ``[*batch]``, 0 to T; of an empty sequence the weights are 0.
        pooling: "max", "mean", "last" or "attention".
        key: None means no dropout.
        rate: of dropout, on embeddings, between layers and before the last one.
    """
    check_name("pooling", pooling, POOLINGS)
    before, between, behind = split_key(key, 3)
    xs = dropout(before, xs if params.embedding is None else params.embedding[xs], dropout_rate)
    states, ys = lstm_stack(params.layers, xs, lengths=lengths, between=locked_dropout_between(between, dropout_rate))
    mask = lengths_to_mask(lengths, xs.shape[0])
    if pooling == "last":
        last = states[-1]
        pooled = jnp.concatenate([one.h for one in last], axis=-1) if isinstance(last, Bidirectional) else last.h
        weights = (mask & ~jnp.concatenate([mask[1:], jnp.zeros_like(mask[:1])])).astype(ys.dtype)
    else:
        weights, pooled = _pool(params, ys, mask, pooling)
    return ClassifierOutput(dense(params.head, dropout(behind, pooled[None], dropout_rate)[0]), weights)


def _pool(params: ClassifierParams, ys: jax.Array, mask: jax.Array, pooling: str) -> tuple[jax.Array, jax.Array]:
    """(weights ``[T, *batch]``, pooled ``[*batch, M]``) over the steps that are there."""
    if pooling == "attention":
        if params.attention is None:
            raise ValueError('pooling: got "attention" and parameters without it, want init_classifier(attends=True)')
        scores, query = params.attention
        pooled, weights = attention.additive(scores, jnp.broadcast_to(query, ys.shape[1:]), ys, mask)
        return weights, pooled
    if len(ys) == 0:
        return jnp.zeros_like(mask, ys.dtype), jnp.zeros(ys.shape[1:], ys.dtype)
    there = mask[..., None]
    if pooling == "mean":
        wide = accumulator_dtype(ys.dtype)
        weights = mask.astype(wide) / jnp.maximum(mask.sum(axis=0, keepdims=True), 1).astype(wide)
        return weights.astype(ys.dtype), jnp.sum(ys.astype(wide) * weights[..., None], axis=0).astype(ys.dtype)
    some = mask.any(axis=0)
    pooled = jnp.where(some[..., None], jnp.max(jnp.where(there, ys, -jnp.inf), axis=0), 0)
    won = jax.nn.one_hot(jnp.argmax(jnp.where(there, ys, -jnp.inf), axis=0), ys.shape[0], axis=0, dtype=ys.dtype)
    return jnp.where(some[None], won.mean(axis=-1), 0), pooled
