"""A language model: embedding, LSTM layers, and the embedding again as the last layer.

    ys = layers(embedding[codes])                  the last layer as wide as the embedding
    logits = ys embedding^T + b                    tied weights (Press and Wolf 2017, arXiv:1608.05859)

Dropout as in AWD-LSTM (Merity, Keskar and Socher 2018, arXiv:1708.02182): of whole words, of inputs, between layers and
of outputs with one mask for all steps, and of recurrent weights.
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax import regularizers
from lstm_jax._core.stack import lstm_stack
from lstm_jax._core.structs import accumulator_dtype
from lstm_jax.initializers import init_params
from lstm_jax.models.layers import add_bias, init_embedding, locked_dropout, locked_dropout_between, split_key


class LanguageModelParams(NamedTuple):
    """Parameters of the language model."""

    embedding: jax.Array
    """``[V, E]``"""
    layers: tuple[Any, ...]
    """of ``lstm_stack``; the last of width E"""
    bias: jax.Array
    """``[V]``"""


class DropoutRates(NamedTuple):
    """Rates; 0 is none."""

    words: float = 0.0
    """rows of the embedding"""
    inputs: float = 0.0
    """embedded words"""
    between: float = 0.0
    """from layer to layer"""
    outputs: float = 0.0
    """of the last layer"""
    weights: float = 0.0
    """recurrent weights"""


class LanguageModelOutput(NamedTuple):
    """What the model makes of a text."""

    states: tuple[Any, ...]
    """of each layer, to read on with"""
    ys: jax.Array
    """``[T, *batch, E]``, dropped out, for the scores"""
    raw_ys: jax.Array
    """the same before dropout, for ``regularizers.temporal_activation_penalty``"""


def init_language_model(
    key: jax.Array,
    vocab_size: int,
    *,
    embedding_size: int = 200,
    hidden_size: int = 200,
    num_layers: int = 2,
    dtype: jnp.dtype = jnp.float32,
) -> LanguageModelParams:
    """Draws the parameters; embeddings normal with deviation 0.1."""
    keys = jax.random.split(key, num_layers + 1)
    if num_layers < 1:
        raise ValueError(f"num_layers: got {num_layers}, want at least 1")
    sizes = [embedding_size, *[hidden_size] * (num_layers - 1), embedding_size]
    layers = tuple(init_params(one, *pair, dtype=dtype) for one, pair in zip(keys[1:], pairwise(sizes), strict=True))
    return LanguageModelParams(
        init_embedding(keys[0], vocab_size, embedding_size, dtype), layers, jnp.zeros(vocab_size, dtype)
    )


def apply(
    params: LanguageModelParams,
    states: tuple[Any, ...] | None,
    codes: jax.Array,
    *,
    resets: jax.Array | None = None,
    mask: jax.Array | None = None,
    key: jax.Array | None = None,
    dropout_rates: DropoutRates = DropoutRates(),  # noqa: B008 - a tuple of numbers
) -> LanguageModelOutput:
    """Reads ``codes [T, *batch]``; ``score`` makes scores of it.

    Args:
        states: of ``stack_zero_state`` or of the window before; None means zeros.
        resets, mask: as for ``lstm``.
        key: None means no dropout.
    """
    words, inputs, between, outputs, weights = split_key(key, 5)
    table, layers = params.embedding, params.layers
    if key is not None:
        table = regularizers.embedding_dropout(words, table, dropout_rates.words)
        keys = jax.random.split(weights, len(layers))
        layers = tuple(
            regularizers.drop_connect(*pair, dropout_rates.weights) for pair in zip(keys, layers, strict=True)
        )

    xs = locked_dropout(inputs, table[codes], dropout_rates.inputs)
    dropped = locked_dropout_between(between, dropout_rates.between)
    states, ys = lstm_stack(layers, xs, states, between=dropped, resets=resets, mask=mask)
    return LanguageModelOutput(states, locked_dropout(outputs, ys, dropout_rates.outputs), ys)


def logits(params: LanguageModelParams, ys: jax.Array) -> jax.Array:
    """``ys [..., E]`` to the scores ``[..., V]`` of the next word."""
    return add_bias(ys @ params.embedding.T, params.bias)


def decode_step(
    params: LanguageModelParams, states: tuple[Any, ...], word: jax.Array
) -> tuple[tuple[Any, ...], jax.Array]:
    """One word read, and the scores of the next one: a ``step`` for ``decoding``."""
    found = apply(params, states, word[None])
    return found.states, logits(params, found.ys[0])


def sampled_softmax_loss(
    key: jax.Array,
    params: LanguageModelParams,
    ys: jax.Array,
    targets: jax.Array,
    log_proposal: jax.Array,
    num_samples: int,
) -> jax.Array:
    """The loss -log p(target) with ``samples`` words for all others in the softmax; for training only.

        s_w = y . e_w + b_w
        loss = log(exp s_target + sum of exp(s_w) / (K q_w) over drawn w that are not the target) - s_target

    for K words drawn from q, the same ones for all targets (Bengio and Senecal 2008; Jean et al. 2015,
    arXiv:1412.2007). Its gradient nears the full one as K grows; it takes K instead of V products a word.

    Args:
        ys: ``[..., E]``; targets: integers ``[...]``.
        log_share: ``[V]``, log q but for a constant; 0.75 times the log of the words' counts, say.
    """
    wide = accumulator_dtype(ys.dtype)
    targets, embedding, bias = jnp.asarray(targets), params.embedding, params.bias.astype(wide)
    log_proposal = jax.nn.log_softmax(log_proposal.astype(wide))
    cumulative = jnp.cumsum(jnp.exp(log_proposal))
    points = cumulative[-1] * jax.random.uniform(key, (num_samples,), wide)
    drawn = jnp.searchsorted(cumulative, points).astype(targets.dtype)
    right = jnp.sum((ys * embedding[targets]).astype(wide), axis=-1) + bias[targets]
    offset = bias - log_proposal - math.log(num_samples)
    others = add_bias((ys @ embedding[drawn].T).astype(wide), offset[drawn])
    itself = jnp.expand_dims(drawn, range(targets.ndim)) == targets[..., None]
    others = jnp.where(itself, -jnp.inf, others)
    return jnp.logaddexp(right, jax.nn.logsumexp(others, axis=-1)) - right
