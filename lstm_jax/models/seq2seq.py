"""Sequence to sequence: an encoder that reads both ways, a decoder that attends to what it read.

    memory = encoder(embedding[source])                        [S, *batch, 2H]
    h = tanh(u), c = v of [u, v] = dense(both directions' last h and c)     the decoder starts there
    ys     = decoder(embedding[target so far])                 [T, *batch, H]
    context, weights = attention of y_t over the memory
    logits = tanh([y_t, context] W) O + b

Attention behind the decoder, by Luong, Pham and Manning 2015 (arXiv:1508.04025) with the additive scores of Bahdanau,
Cho and Bengio 2015 (arXiv:1409.0473): no step of the decoder waits for it, so training runs the decoder over the
whole target first. Without attention (Sutskever, Vinyals and Le 2014) the state is all that it knows of the source.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax import attention
from lstm_jax._core.sequence import lstm
from lstm_jax._core.stack import init_stack, lstm_stack
from lstm_jax._core.steps import lengths_to_mask
from lstm_jax._core.structs import LSTMParams, LSTMState, accumulator_dtype
from lstm_jax.initializers import init_params
from lstm_jax.models.layers import (
    DenseParams,
    add_bias,
    dense,
    dropout,
    init_dense,
    init_embedding,
    locked_dropout,
    split_key,
)


class Seq2SeqParams(NamedTuple):
    """Parameters of the translator."""

    source: jax.Array
    """``[V, E]``"""
    target: jax.Array
    """``[W, E]``"""
    encoder: tuple[Any, ...]
    """one layer, both ways"""
    bridge: DenseParams
    """``[4H, 2H]``: both directions' h and c to the decoder's"""
    decoder: LSTMParams
    attention: attention.AdditiveParams | None
    """None means none"""
    mix: DenseParams
    """``[3H, E]``, without attention ``[H, E]``"""
    bias: jax.Array
    """``[W]``; the last layer is ``target`` again"""


class Memory(NamedTuple):
    """What the encoder read."""

    ys: jax.Array
    """``[S, *batch, 2H]``"""
    keys: jax.Array
    """``[S, *batch, A]``, what attention makes of them once"""
    mask: jax.Array
    """bool ``[S, *batch]``"""


class Seq2SeqOutput(NamedTuple):
    """Scores of the next token after each, and where the decoder looked."""

    logits: jax.Array
    """``[T, *batch, W]``"""
    weights: jax.Array
    """``[T, S, *batch]``; without attention 0"""


def init_seq2seq(
    key: jax.Array,
    source_vocab_size: int,
    target_vocab_size: int,
    *,
    embedding_size: int = 256,
    hidden_size: int = 256,
    use_attention: bool = True,
    dtype: jnp.dtype = jnp.float32,
) -> Seq2SeqParams:
    """Draws the parameters."""
    keys = jax.random.split(key, 7)
    H = hidden_size
    return Seq2SeqParams(
        init_embedding(keys[0], source_vocab_size, embedding_size, dtype),
        init_embedding(keys[1], target_vocab_size, embedding_size, dtype),
        init_stack(keys[2], embedding_size, H, 1, bidirectional=True, dtype=dtype),
        init_dense(keys[3], 4 * H, 2 * H, dtype),
        init_params(keys[4], embedding_size, H, dtype=dtype),
        attention.init_additive(keys[5], H, 2 * H, H, dtype=dtype) if use_attention else None,
        init_dense(keys[6], 3 * H if use_attention else H, embedding_size, dtype),
        jnp.zeros(target_vocab_size, dtype),
    )


def encode(
    params: Seq2SeqParams,
    codes: jax.Array,
    lengths: jax.Array,
    *,
    key: jax.Array | None = None,
    dropout_rate: float = 0.0,
) -> tuple[Memory, LSTMState]:
    """Reads ``codes [S, *batch]``: (memory, the decoder's first state)."""
    before, behind = split_key(key, 2)
    xs = locked_dropout(before, params.source[codes], dropout_rate)
    (both,), ys = lstm_stack(params.encoder, xs, lengths=lengths)
    last = [part.astype(ys.dtype) for part in (both.forward.h, both.backward.h, both.forward.c, both.backward.c)]
    h, c = jnp.split(dense(params.bridge, jnp.concatenate(last, axis=-1)), 2, axis=-1)
    ys = locked_dropout(behind, ys, dropout_rate)
    keys = ys if params.attention is None else attention.memory_keys(params.attention, ys)
    return Memory(ys, keys, lengths_to_mask(lengths, codes.shape[0])), LSTMState(
        jnp.tanh(h), c.astype(accumulator_dtype(c.dtype))
    )


def decode(
    params: Seq2SeqParams,
    memory: Memory,
    state: LSTMState,
    codes: jax.Array,
    *,
    key: jax.Array | None = None,
    dropout_rate: float = 0.0,
) -> tuple[LSTMState, Seq2SeqOutput]:
    """Reads the target's ``codes [T, *batch]``, each the token before the one to be scored."""
    before, behind = split_key(key, 2)
    state, ys = lstm(params.decoder, locked_dropout(before, params.target[codes], dropout_rate), state)
    if params.attention is None:
        weights, seen = jnp.zeros((codes.shape[0], *memory.mask.shape), ys.dtype), ys
    else:
        # One token at a time, its scores computed again for the gradient: 30 ms, where a vmap over T takes 225
        # (gradient at S = T = 18, B = 64, H = 256, two Zen 4 cores): nothing of size [T, S, B, H] is kept.
        context, weights = jax.lax.map(jax.checkpoint(partial(_attend, params.attention, memory)), ys)
        seen = jnp.concatenate([ys, context], axis=-1)
    mixed = dropout(behind, jnp.tanh(dense(params.mix, seen)), dropout_rate)
    return state, Seq2SeqOutput(add_bias(mixed @ params.target.T, params.bias), weights)


def _attend(params: attention.AdditiveParams, memory: Memory, query: jax.Array) -> tuple[jax.Array, jax.Array]:
    return attention.additive(params, query, memory.ys, memory.mask, memory.keys)


def teacher_force(
    params: Seq2SeqParams,
    source: jax.Array,
    lengths: jax.Array,
    target: jax.Array,
    *,
    key: jax.Array | None = None,
    dropout_rate: float = 0.0,
) -> Seq2SeqOutput:
    """Scores of every next token of a target that is known: for training and for evaluating its probability.

    Args:
        source: integers ``[S, *batch]``; lengths: ``[*batch]``.
        target: integers ``[T, *batch]``, a first token before those to be scored.
        key: None means no dropout.
        rate: of dropout, on embeddings, memory and before the last layer.
    """
    encoding, decoding = split_key(key, 2)
    memory, state = encode(params, source, lengths, key=encoding, dropout_rate=dropout_rate)
    return decode(params, memory, state, target, key=decoding, dropout_rate=dropout_rate)[1]


def decode_step(
    params: tuple[Seq2SeqParams, Memory], state: LSTMState, token: jax.Array
) -> tuple[LSTMState, jax.Array]:
    """One token read, and the scores of the next one: a ``step`` for ``decoding``, of one sentence."""
    model, memory = params
    state, output = decode(model, memory, state, token[None])
    return state, output.logits[0]
