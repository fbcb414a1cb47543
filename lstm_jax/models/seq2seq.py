"""Sequence-to-sequence translation: a bidirectional encoder, and a decoder that attends to the encoder's outputs.

    memory = encoder(source_embedding[source])                 [S, *batch, 2H]
    [u, v] = dense(h and c of both final encoder states)       the bridge
    h_0 = tanh(u), c_0 = v                                     the decoder's initial state
    ys = decoder(target_embedding[target])                     [T, *batch, H]
    context_t, weights_t = additive attention of y_t over memory
    logits_t = tanh([y_t, context_t] W + a) target_embedding^T + b

Letters: S source and T target tokens, V and U the sizes of their vocabularies, E embedding size. Attention is computed
from the decoder's outputs, as in Luong, Pham and Manning 2015 (arXiv:1508.04025), with the additive scores of Bahdanau,
Cho and Bengio 2015 (arXiv:1409.0473). The recurrence does not depend on it, so training runs the decoder over the whole
target first. Without attention (Sutskever, Vinyals and Le 2014) the decoder sees the source only through its initial
state.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from lstm_jax import attention
from lstm_jax._core.sequence import lstm
from lstm_jax._core.stack import init_stack, lstm_stack
from lstm_jax._core.steps import lengths_to_mask
from lstm_jax._core.structs import LSTMParams, LSTMState, accumulator_dtype
from lstm_jax.cells.dense import add_bias
from lstm_jax.initializers import init_params
from lstm_jax.models.layers import DenseParams, dense, init_dense, init_embedding, split_key
from lstm_jax.regularizers import Rate, dropout, locked_dropout


class Seq2SeqParams(NamedTuple):
    """Parameters of the encoder and the decoder, initialized by ``init_seq2seq``."""

    source_embedding: jax.Array
    """``[V, E]``, the input embedding of the encoder"""
    target_embedding: jax.Array
    """``[U, E]``, the input embedding of the decoder and the output kernel"""
    encoder: tuple[Any, ...]
    """parameters of ``lstm_stack``: one bidirectional layer"""
    bridge: DenseParams
    """kernel ``[4H, 2H]``, maps h and c of both encoder directions to the decoder's initial h and c"""
    decoder: LSTMParams
    """parameters of ``lstm`` over the embedded target tokens"""
    attention: attention.AdditiveParams | None
    """attention of the decoder's outputs over the encoder's outputs; None means no attention"""
    combine: DenseParams
    """kernel ``[3H, E]``, maps a decoder output and its context to the output space; ``[H, E]`` without attention"""
    bias: jax.Array
    """``[U]``, the output bias"""


class EncoderMemory(NamedTuple):
    """The encoded source that the decoder attends to."""

    ys: jax.Array
    """``[S, *batch, 2H]``, the encoder's outputs"""
    keys: jax.Array
    """``[S, *batch, H]``, the ``attention.memory_keys`` of ``ys``; without attention equal to ``ys``"""
    mask: jax.Array
    """bool ``[S, *batch]``, True at valid source tokens"""


class Seq2SeqOutput(NamedTuple):
    """Next-token logits of the decoder, and its attention weights over the source."""

    logits: jax.Array
    """``[T, *batch, U]``"""
    attention_weights: jax.Array
    """``[T, S, *batch]``; the weights sum to 1 over the source, and are 0 without attention"""


def init_seq2seq(
    key: jax.Array,
    source_vocab_size: int,
    target_vocab_size: int,
    *,
    embedding_size: int = 256,
    hidden_size: int = 256,
    use_attention: bool = True,
    dtype: DTypeLike = jnp.float32,
) -> Seq2SeqParams:
    """Initializes the parameters of a sequence-to-sequence model.

    Embeddings are normal with standard deviation 0.1.

    Args:
        key: a JAX random key.
        source_vocab_size: V, the number of source tokens.
        target_vocab_size: U, the number of target tokens.
        embedding_size: E, the embedding size of source and target tokens.
        hidden_size: H, the hidden size of the decoder, of each encoder direction, and of the attention.
        use_attention: whether the decoder attends to the encoder's outputs.
        dtype: dtype of the parameters; half-precision parameters are sampled in float32 and cast.
    Returns:
        Seq2SeqParams: the parameters for ``teacher_force``, ``encode``, ``decode`` and ``decode_step``.
    Raises:
        ValueError: if ``embedding_size`` or ``hidden_size`` is below 1.

    Example:
        >>> import jax
        >>> from lstm_jax.models import seq2seq
        >>> params = seq2seq.init_seq2seq(jax.random.key(0), 30, 40, embedding_size=8, hidden_size=16)
        >>> params.combine.kernel.shape
        (48, 8)
    """
    keys = jax.random.split(key, 7)
    H = hidden_size
    return Seq2SeqParams(
        source_embedding=init_embedding(keys[0], source_vocab_size, embedding_size, dtype),
        target_embedding=init_embedding(keys[1], target_vocab_size, embedding_size, dtype),
        encoder=init_stack(keys[2], embedding_size, H, 1, bidirectional=True, dtype=dtype),
        bridge=init_dense(keys[3], 4 * H, 2 * H, dtype),
        decoder=init_params(keys[4], embedding_size, H, dtype=dtype),
        attention=attention.init_additive(keys[5], H, 2 * H, H, dtype=dtype) if use_attention else None,
        combine=init_dense(keys[6], 3 * H if use_attention else H, embedding_size, dtype),
        bias=jnp.zeros(target_vocab_size, dtype),
    )


def encode(
    params: Seq2SeqParams,
    tokens: jax.Array,
    lengths: jax.Array,
    *,
    key: jax.Array | None = None,
    dropout_rate: Rate = 0.0,
) -> tuple[EncoderMemory, LSTMState]:
    """Encodes the source and computes the decoder's initial state.

    Args:
        params: parameters from ``init_seq2seq``.
        tokens: integers ``[S, *batch]``, the source tokens.
        lengths: integers ``[*batch]``, the length of each source, 0 to S; tokens after the length are ignored.
        key: a JAX random key; None disables dropout.
        dropout_rate: probability of dropping each element of the embedded tokens and of the encoder's outputs, with
            one mask for all steps.
    Returns:
        (memory, state): the ``EncoderMemory`` to attend to, and the decoder's initial state.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import seq2seq
        >>> params = seq2seq.init_seq2seq(jax.random.key(0), 30, 40, embedding_size=8, hidden_size=16)
        >>> memory, state = seq2seq.encode(params, jnp.ones((7, 3), int), jnp.array([7, 5, 2]))
        >>> memory.ys.shape, state.h.shape
        ((7, 3, 32), (3, 16))
    """
    input_key, memory_key = split_key(key, 2)
    xs = locked_dropout(input_key, params.source_embedding[tokens], dropout_rate)
    ((forward, backward),), encoder_ys = lstm_stack(params.encoder, xs, lengths=lengths)
    bridge_inputs = [part.astype(encoder_ys.dtype) for part in (forward.h, backward.h, forward.c, backward.c)]
    u, v = jnp.split(dense(params.bridge, jnp.concatenate(bridge_inputs, axis=-1)), 2, axis=-1)
    state = LSTMState(jnp.tanh(u), v.astype(accumulator_dtype(v.dtype)))
    ys = locked_dropout(memory_key, encoder_ys, dropout_rate)
    attention_keys = ys if params.attention is None else attention.memory_keys(params.attention, ys)
    return EncoderMemory(ys, attention_keys, lengths_to_mask(lengths, tokens.shape[0])), state


def decode(
    params: Seq2SeqParams,
    memory: EncoderMemory,
    state: LSTMState,
    tokens: jax.Array,
    *,
    key: jax.Array | None = None,
    dropout_rate: Rate = 0.0,
) -> tuple[LSTMState, Seq2SeqOutput]:
    """Runs the decoder over target tokens and computes the next-token logits.

    Args:
        params: parameters from ``init_seq2seq``.
        memory: the encoded source from ``encode``.
        state: the decoder's state from ``encode``, or from a previous call to continue the target.
        tokens: integers ``[T, *batch]``, the decoder inputs: the target, shifted right by one.
        key: a JAX random key; None disables dropout.
        dropout_rate: probability of dropping each element of the embedded tokens, with one mask for all steps, and
            of the inputs of the output layer.
    Returns:
        (state, output): the decoder's new state, and a ``Seq2SeqOutput`` of next-token logits ``[T, *batch, U]`` and
        attention weights ``[T, S, *batch]``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import seq2seq
        >>> params = seq2seq.init_seq2seq(jax.random.key(0), 30, 40, embedding_size=8, hidden_size=16)
        >>> memory, state = seq2seq.encode(params, jnp.ones((7, 3), int), jnp.array([7, 5, 2]))
        >>> state, output = seq2seq.decode(params, memory, state, jnp.ones((5, 3), int))
        >>> output.logits.shape, output.attention_weights.shape
        ((5, 3, 40), (5, 7, 3))
    """
    input_key, output_key = split_key(key, 2)
    xs = locked_dropout(input_key, params.target_embedding[tokens], dropout_rate)
    final_state, ys = lstm(params.decoder, xs, state)
    if params.attention is None:
        weights = jnp.zeros((tokens.shape[0], *memory.mask.shape), ys.dtype)
        combine_inputs = ys
    else:
        # One token at a time, with its scores recomputed for the gradient, takes 30 ms; a vmap over T takes 225 ms
        # (gradient at S = T = 18, B = 64, H = 256, two Zen 4 cores), because it stores arrays [T, S, B, H].
        context, weights = jax.lax.map(jax.checkpoint(partial(_attend, params.attention, memory)), ys)
        combine_inputs = jnp.concatenate([ys, context], axis=-1)
    combined = dropout(output_key, jnp.tanh(dense(params.combine, combine_inputs)), dropout_rate)
    return final_state, Seq2SeqOutput(add_bias(combined @ params.target_embedding.T, params.bias), weights)


def _attend(params: attention.AdditiveParams, memory: EncoderMemory, query: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (context, weights) of one decoder output over the memory, using the precomputed keys."""
    return attention.additive(params, query, memory.ys, memory.mask, memory.keys)


def teacher_force(
    params: Seq2SeqParams,
    source: jax.Array,
    lengths: jax.Array,
    target: jax.Array,
    *,
    key: jax.Array | None = None,
    dropout_rate: Rate = 0.0,
) -> Seq2SeqOutput:
    """Computes the next-token logits of a known target, for training and for scoring a given translation.

    Args:
        params: parameters from ``init_seq2seq``.
        source: integers ``[S, *batch]``, the source tokens.
        lengths: integers ``[*batch]``, the length of each source, 0 to S; tokens after the length are ignored.
        target: integers ``[T, *batch]``, the decoder inputs: a start token, then the target without its last token.
        key: a JAX random key; None disables dropout.
        dropout_rate: probability of dropping each element of the embedded tokens, of the encoder's outputs and of the
            inputs of the output layer.
    Returns:
        Seq2SeqOutput: next-token logits ``[T, *batch, U]`` and attention weights ``[T, S, *batch]``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import seq2seq
        >>> params = seq2seq.init_seq2seq(jax.random.key(0), 30, 40, embedding_size=8, hidden_size=16)
        >>> source, lengths, target = jnp.ones((7, 3), int), jnp.array([7, 5, 2]), jnp.ones((5, 3), int)
        >>> seq2seq.teacher_force(params, source, lengths, target).logits.shape
        (5, 3, 40)
    """
    encoder_key, decoder_key = split_key(key, 2)
    memory, state = encode(params, source, lengths, key=encoder_key, dropout_rate=dropout_rate)
    return decode(params, memory, state, target, key=decoder_key, dropout_rate=dropout_rate)[1]


def decode_step(
    params: tuple[Seq2SeqParams, EncoderMemory], state: LSTMState, token: jax.Array
) -> tuple[LSTMState, jax.Array]:
    """Computes the next-token logits after one token of one target; this is a ``step`` for ``lstm_jax.decoding``.

    Args:
        params: ``(params, memory)`` from ``init_seq2seq`` and from ``encode`` of one source.
        state: the decoder's state.
        token: the token to read, an integer scalar.
    Returns:
        (state, logits): the decoder's new state and the next-token logits ``[U]``.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> from lstm_jax.models import seq2seq
        >>> params = seq2seq.init_seq2seq(jax.random.key(0), 30, 40, embedding_size=8, hidden_size=16)
        >>> memory, state = seq2seq.encode(params, jnp.ones(7, int), jnp.array(7))
        >>> step = seq2seq.decode_step
        >>> lj.decoding.greedy(step, (params, memory), state, 1, max_length=10, eos_token=2).tokens.shape
        (10,)
    """
    model_params, memory = params
    state, output = decode(model_params, memory, state, token[None])
    return state, output.logits[0]
