"""Question answering over a story of sentences, with several hops of attention.

    m_s = last output of the sentence LSTM over the words of sentence s       [S, *batch, H]
    q   = last output of the same LSTM over the words of the question         [*batch, H]
    ys  = bidirectional LSTM over the sentences, with inputs [m_s, q]         [S, *batch, 2H]
    u_0 = q;  u_k = tanh(u_(k-1) + dense_k(context_k))                        for each of K hops
    context_k = additive attention of u_(k-1) over ys
    logits = dense(u_K)                                                       [*batch, N]

Letters: S sentences of at most W words, V vocabulary size, E embedding size, N answers. The hops follow end-to-end
memory networks (Sukhbaatar et al. 2015, arXiv:1503.08895).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from lstm_jax import attention
from lstm_jax._core.sequence import lstm
from lstm_jax._core.stack import init_stack, lstm_stack
from lstm_jax._core.structs import LSTMParams
from lstm_jax.initializers import init_params
from lstm_jax.models.layers import DenseParams, dense, init_dense, init_embedding, split_key
from lstm_jax.regularizers import Rate, dropout


class HopParams(NamedTuple):
    """Parameters of one attention hop over the story."""

    attention: attention.AdditiveParams
    """attention of the query ``u_(k-1)`` over the sentences"""
    update: DenseParams
    """kernel ``[2H, H]``, maps the context to the update of the query"""


class MemoryQAParams(NamedTuple):
    """Parameters of the question-answering model, initialized by ``init_memory_qa``."""

    embedding: jax.Array
    """``[V, E]``"""
    sentence_encoder: LSTMParams
    """parameters of ``lstm`` over the words of a sentence or of the question"""
    story_encoder: tuple[Any, ...]
    """parameters of ``lstm_stack``: one bidirectional layer over the sentences"""
    hops: tuple[HopParams, ...]
    """parameters of each hop"""
    head: DenseParams
    """the dense output layer, kernel ``[H, N]``"""


class Story(NamedTuple):
    """A batch of stories of S sentences of at most W words, each with a question of at most Q words."""

    sentences: jax.Array
    """integers ``[W, S, *batch]``, the words of each sentence"""
    sentence_lengths: jax.Array
    """integers ``[S, *batch]``, the number of words of each sentence; empty sentences are ignored"""
    question: jax.Array
    """integers ``[Q, *batch]``, the words of the question"""
    question_length: jax.Array
    """integers ``[*batch]``, the number of words of the question"""


class MemoryQAOutput(NamedTuple):
    """Answer logits, and the attention weights of each hop."""

    logits: jax.Array
    """``[*batch, N]``"""
    attention_weights: jax.Array
    """``[K, S, *batch]``; the weights of each hop sum to 1 over the sentences"""


def init_memory_qa(
    key: jax.Array,
    vocab_size: int,
    num_answers: int,
    *,
    embedding_size: int = 64,
    hidden_size: int = 64,
    num_hops: int = 2,
    dtype: DTypeLike = jnp.float32,
) -> MemoryQAParams:
    """Initializes the parameters of a question-answering model.

    Embeddings are normal with standard deviation 0.1.

    Args:
        key: a JAX random key.
        vocab_size: V, the number of tokens.
        num_answers: N, the number of possible answers.
        embedding_size: E, the embedding size.
        hidden_size: H, the hidden size of each layer and direction.
        num_hops: K, the number of attention hops, at least 1.
        dtype: dtype of the parameters; half-precision parameters are sampled in float32 and cast.
    Returns:
        MemoryQAParams: the parameters for ``answer``.
    Raises:
        ValueError: if ``num_hops``, ``embedding_size`` or ``hidden_size`` is below 1.

    Example:
        >>> import jax
        >>> from lstm_jax.models import memory_qa
        >>> params = memory_qa.init_memory_qa(jax.random.key(0), 30, 6, num_hops=3)
        >>> len(params.hops), params.head.kernel.shape
        (3, (64, 6))
    """
    if num_hops < 1:
        raise ValueError(f"num_hops: got {num_hops}, want at least 1")
    keys = jax.random.split(key, 5)
    H = hidden_size
    hops = tuple(
        HopParams(
            attention.init_additive(attention_key, H, 2 * H, H, dtype=dtype), init_dense(update_key, 2 * H, H, dtype)
        )
        for attention_key, update_key in jax.random.split(keys[4], (num_hops, 2))
    )
    return MemoryQAParams(
        embedding=init_embedding(keys[0], vocab_size, embedding_size, dtype),
        sentence_encoder=init_params(keys[1], embedding_size, H, dtype=dtype),
        story_encoder=init_stack(keys[2], 2 * H, H, 1, bidirectional=True, dtype=dtype),
        hops=hops,
        head=init_dense(keys[3], H, num_answers, dtype),
    )


def answer(
    params: MemoryQAParams, story: Story, *, key: jax.Array | None = None, dropout_rate: Rate = 0.0
) -> MemoryQAOutput:
    """Computes the answer logits of the question of each story.

    Args:
        params: parameters from ``init_memory_qa``.
        story: the stories and their questions.
        key: a JAX random key; None disables dropout.
        dropout_rate: probability of dropping each element of the embedded words, of the encoded sentences and of the
            inputs of the output layer.
    Returns:
        MemoryQAOutput: answer logits ``[*batch, N]``, and attention weights ``[K, S, *batch]`` of each hop over the
        sentences.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import memory_qa
        >>> params = memory_qa.init_memory_qa(jax.random.key(0), 30, 6)
        >>> sentences, lengths = jnp.ones((7, 4), int), jnp.array([7, 5, 6, 0])
        >>> story = memory_qa.Story(sentences, lengths, jnp.ones(3, int), jnp.array(3))
        >>> logits, weights = memory_qa.answer(params, story)
        >>> logits.shape, weights.shape
        ((6,), (2, 4))
    """
    sentence_key, question_key, story_key, head_key = split_key(key, 4)
    sentences = _encode(params, story.sentences, story.sentence_lengths, sentence_key, dropout_rate)
    query = _encode(params, story.question, story.question_length, question_key, dropout_rate)
    xs = jnp.concatenate([sentences, jnp.broadcast_to(query[None], sentences.shape)], axis=-1)
    mask = story.sentence_lengths > 0
    _, ys = lstm_stack(params.story_encoder, dropout(story_key, xs, dropout_rate), mask=mask)
    attention_weights = []
    for hop in params.hops:
        context, weights = attention.additive(hop.attention, query, ys, mask)
        query = jnp.tanh(query + dense(hop.update, context))
        attention_weights.append(weights)
    logits = dense(params.head, dropout(head_key, query[None], dropout_rate)[0])
    return MemoryQAOutput(logits, jnp.stack(attention_weights))


def _encode(
    params: MemoryQAParams, tokens: jax.Array, lengths: jax.Array, key: jax.Array | None, dropout_rate: Rate
) -> jax.Array:
    """Encodes sentences, integers ``[W, ...]``, as the last outputs ``[..., H]`` of the sentence LSTM."""
    xs = dropout(key, params.embedding[tokens], dropout_rate)
    state, _ = lstm(params.sentence_encoder, xs, lengths=lengths)
    return state.h
