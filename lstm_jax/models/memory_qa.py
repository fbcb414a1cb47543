"""Answers a question about a story: sentences and the question by LSTMs, attention from one to the other.

m_s  = the last output of an LSTM over the words of sentence s            [S, *batch, H]
q    = the same LSTM's over the question                                  [*batch, H]
ys   = LSTMs in both directions over the sentences, each beside q         [S, *batch, 2H]
u_0  = q;  u_k = u_(k-1) + dense(attention of u_(k-1) over ys)            K looks (Sukhbaatar et al. 2015)
logits = dense(u_K)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax import attention
from lstm_jax._core.sequence import lstm
from lstm_jax._core.stack import init_stack, lstm_stack
from lstm_jax._core.structs import LSTMParams
from lstm_jax.initializers import init_params
from lstm_jax.models.layers import DenseParams, dense, dropout, init_dense, init_embedding, split_key


class MemoryQAParams(NamedTuple):
    """Parameters of the reader."""

    embedding: jax.Array
    """``[V, E]``"""
    words: LSTMParams
    """over the words of a sentence"""
    story: tuple[Any, ...]
    """over sentences, both ways"""
    looks: tuple[tuple[attention.AdditiveParams, DenseParams], ...]
    """one for each look at the story"""
    head: DenseParams
    """``[H, answers]``"""


class Story(NamedTuple):
    """A story of S sentences of at most W words, and a question of at most Q words."""

    sentences: jax.Array
    """integers ``[W, S, *batch]``"""
    words: jax.Array
    """integers ``[S, *batch]``: words in each sentence; one of 0 words is not there"""
    question: jax.Array
    """integers ``[Q, *batch]``"""
    question_words: jax.Array
    """integers ``[*batch]``"""


class MemoryQAOutput(NamedTuple):
    """Scores of the answers, and where each look went."""

    logits: jax.Array
    """``[*batch, answers]``"""
    weights: jax.Array
    """``[looks, S, *batch]``"""


def init_memory_qa(
    key: jax.Array,
    vocab_size: int,
    num_answers: int,
    *,
    embedding_size: int = 64,
    hidden_size: int = 64,
    num_hops: int = 2,
    dtype: jnp.dtype = jnp.float32,
) -> MemoryQAParams:
    """Draws the parameters."""
    if num_hops < 1:
        raise ValueError(f"looks: got {num_hops}, want at least 1")
    keys = jax.random.split(key, 5)
    look_keys = jax.random.split(keys[4], (num_hops, 2))
    H = hidden_size
    reads = tuple(
        (attention.init_additive(scores, H, 2 * H, H, dtype=dtype), init_dense(take, 2 * H, H, dtype))
        for scores, take in look_keys
    )
    return MemoryQAParams(
        init_embedding(keys[0], vocab_size, embedding_size, dtype),
        init_params(keys[1], embedding_size, H, dtype=dtype),
        init_stack(keys[2], 2 * H, H, 1, bidirectional=True, dtype=dtype),
        reads,
        init_dense(keys[3], H, num_answers, dtype),
    )


def answer(
    params: MemoryQAParams, story: Story, *, key: jax.Array | None = None, dropout_rate: float = 0.0
) -> MemoryQAOutput:
    """Scores of every answer.

    Args:
        key: None means no dropout.
        rate: of dropout, on embedded words, sentences and before the last layer.
    """
    keys = split_key(key, 4)
    told = _sentence(params, story.sentences, story.words, keys[0], dropout_rate)
    asked = _sentence(params, story.question, story.question_words, keys[1], dropout_rate)
    beside = jnp.concatenate([told, jnp.broadcast_to(asked[None], told.shape)], axis=-1)
    mask = story.words > 0
    _, ys = lstm_stack(params.story, dropout(keys[2], beside, dropout_rate), mask=mask)
    seen, weights = asked, []
    for scores, take in params.looks:
        context, where = attention.additive(scores, seen, ys, mask)
        seen = jnp.tanh(seen + dense(take, context))
        weights.append(where)
    return MemoryQAOutput(dense(params.head, dropout(keys[3], seen[None], dropout_rate)[0]), jnp.stack(weights))


def _sentence(
    params: MemoryQAParams, codes: jax.Array, lengths: jax.Array, key: jax.Array | None, rate: float
) -> jax.Array:
    """``[W, ...]`` words to ``[..., H]``."""
    state, _ = lstm(params.words, dropout(key, params.embedding[codes], rate), lengths=lengths)
    return state.h
