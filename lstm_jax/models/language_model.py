"""A language model: an embedding, LSTM layers, and the embedding again as the last layer.

    ys = layers(embedding[tokens])                 [T, *batch, E], the last layer is as wide as the embedding
    logits = ys embedding^T + b                    tied weights (Press and Wolf 2017, arXiv:1608.05859)

Letters: V tokens of the vocabulary, E the embedding's size. Dropout is that of AWD-LSTM (Merity, Keskar and Socher
2018, arXiv:1708.02182): of whole rows of the embedding; of inputs, between layers and of outputs, with one mask for all
steps; and of recurrent weights.
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from lstm_jax._core.stack import lstm_stack
from lstm_jax._core.structs import accumulator_dtype
from lstm_jax.cells.dense import add_bias
from lstm_jax.initializers import init_params
from lstm_jax.models.layers import init_embedding, locked_dropout_between, split_key
from lstm_jax.regularizers import Rate, drop_connect, embedding_dropout, locked_dropout


class LanguageModelParams(NamedTuple):
    """Parameters of the language model, made by ``init_language_model``."""

    embedding: jax.Array
    """``[V, E]``, the first and the last layer"""
    layers: tuple[Any, ...]
    """parameters of ``lstm_stack``; the last layer has width E"""
    bias: jax.Array
    """``[V]``, of the last layer"""


class DropoutRates(NamedTuple):
    """Probabilities of dropping in each of AWD-LSTM's five places; 0 means that nothing is dropped there."""

    embedding: Rate = 0.0
    """of dropping a row of the embedding, that is a token wherever it occurs"""
    input: Rate = 0.0
    """of dropping a number of an embedded token"""
    hidden: Rate = 0.0
    """of dropping a number between two layers"""
    output: Rate = 0.0
    """of dropping a number of the last layer's output"""
    weight: Rate = 0.0
    """of dropping a recurrent weight of a layer"""


class LanguageModelOutput(NamedTuple):
    """States and outputs of the layers after reading a piece of text."""

    states: tuple[Any, ...]
    """the final state of each layer, from which to continue"""
    ys: jax.Array
    """``[T, *batch, E]``, the last layer's outputs after dropout: what ``logits`` takes"""
    raw_ys: jax.Array
    """``[T, *batch, E]``, those outputs before dropout, for ``regularizers.temporal_activation_penalty``"""


def init_language_model(
    key: jax.Array,
    vocab_size: int,
    *,
    embedding_size: int = 200,
    hidden_size: int = 200,
    num_layers: int = 2,
    dtype: DTypeLike = jnp.float32,
) -> LanguageModelParams:
    """Draws the parameters of a language model; embeddings are normal with standard deviation 0.1.

    Args:
        key: a JAX random key.
        vocab_size: V, the number of tokens.
        embedding_size: E, the size of an embedded token and of the last layer.
        hidden_size: H, the units of every layer but the last.
        num_layers: LSTM layers, at least 1.
        dtype: the dtype of the parameters; half precision is drawn in float32 and cast.
    Returns:
        LanguageModelParams: for ``apply``, ``logits`` and ``decode_step``.
    Raises:
        ValueError: ``num_layers`` or a size of the layers is below 1.

    Example:
        >>> import jax
        >>> from lstm_jax.models import language_model
        >>> params = language_model.init_language_model(jax.random.key(0), 50, embedding_size=8, hidden_size=16)
        >>> params.embedding.shape, len(params.layers)
        ((50, 8), 2)
    """
    keys = jax.random.split(key, num_layers + 1)
    if num_layers < 1:
        raise ValueError(f"num_layers: got {num_layers}, want at least 1")
    sizes = pairwise([embedding_size, *[hidden_size] * (num_layers - 1), embedding_size])
    layers = tuple(init_params(layer_key, *size, dtype=dtype) for layer_key, size in zip(keys[1:], sizes, strict=True))
    embedding = init_embedding(keys[0], vocab_size, embedding_size, dtype)
    return LanguageModelParams(embedding, layers, jnp.zeros(vocab_size, dtype))


def apply(
    params: LanguageModelParams,
    states: tuple[Any, ...] | None,
    tokens: jax.Array,
    *,
    resets: jax.Array | None = None,
    mask: jax.Array | None = None,
    key: jax.Array | None = None,
    dropout_rates: DropoutRates = DropoutRates(),  # noqa: B008 - a tuple of numbers
) -> LanguageModelOutput:
    """Reads a piece of text; ``logits`` then scores the next token after each that was read.

    Args:
        params: made by ``init_language_model``.
        states: the state of each layer, from the piece before or from ``stack_zero_state``; None means zeros.
        tokens: integers ``[T, *batch]``.
        resets: bool ``[T, *batch]``, the steps before which the states are set to zero, as for ``lstm``; None means
            none.
        mask: bool ``[T, *batch]``, the steps that are taken, as for ``lstm``; None means all.
        key: a JAX random key; None means no dropout.
        dropout_rates: the probabilities of dropping in each place.
    Returns:
        LanguageModelOutput: final states, and outputs ``[T, *batch, E]`` after and before dropout.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import language_model
        >>> params = language_model.init_language_model(jax.random.key(0), 50, embedding_size=8, hidden_size=16)
        >>> output = language_model.apply(params, None, jnp.ones((12, 4), int))
        >>> language_model.logits(params, output.ys).shape
        (12, 4, 50)
    """
    embedding_key, input_key, hidden_key, output_key, weight_key = split_key(key, 5)
    embedding = embedding_dropout(embedding_key, params.embedding, dropout_rates.embedding)
    layers = tuple(
        drop_connect(layer_key, layer, dropout_rates.weight)
        for layer_key, layer in zip(split_key(weight_key, len(params.layers)), params.layers, strict=True)
    )
    xs = locked_dropout(input_key, embedding[tokens], dropout_rates.input)
    between = locked_dropout_between(hidden_key, dropout_rates.hidden)
    states, ys = lstm_stack(layers, xs, states, between=between, resets=resets, mask=mask)
    return LanguageModelOutput(states, locked_dropout(output_key, ys, dropout_rates.output), ys)


def logits(params: LanguageModelParams, ys: jax.Array) -> jax.Array:
    """Computes the logits of the next token: ``ys embedding^T + b``, with the tied embedding.

    Args:
        params: made by ``init_language_model``.
        ys: ``[..., E]``, outputs of ``apply``.
    Returns:
        the logits ``[..., V]``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import language_model
        >>> params = language_model.init_language_model(jax.random.key(0), 50, embedding_size=8)
        >>> language_model.logits(params, jnp.ones((12, 4, 8))).shape
        (12, 4, 50)
    """
    return add_bias(ys @ params.embedding.T, params.bias)


def decode_step(
    params: LanguageModelParams, states: tuple[Any, ...], token: jax.Array
) -> tuple[tuple[Any, ...], jax.Array]:
    """Reads one token of one sequence and scores the next one: the ``step`` that ``lstm_jax.decoding`` takes.

    Args:
        params: made by ``init_language_model``.
        states: the state of each layer, such as ``stack_zero_state(params.layers)``.
        token: an integer.
    Returns:
        (states, logits): the new state of each layer, and the logits ``[V]`` of the next token.

    Example:
        >>> import jax, lstm_jax as lj
        >>> from lstm_jax.models import language_model
        >>> key = jax.random.key(0)
        >>> params = language_model.init_language_model(key, 50, embedding_size=8, hidden_size=16)
        >>> states = lj.stack_zero_state(params.layers)
        >>> lj.decoding.sample(key, language_model.decode_step, params, states, 1, max_length=20).tokens.shape
        (20,)
    """
    output = apply(params, states, token[None])
    return output.states, logits(params, output.ys[0])


def sampled_softmax_loss(
    key: jax.Array,
    params: LanguageModelParams,
    ys: jax.Array,
    targets: jax.Array,
    log_proposal: jax.Array,
    num_samples: int,
) -> jax.Array:
    """Estimates the loss -log p(target) with a sample of the vocabulary in the softmax; for training only.

        s_w = y . e_w + b_w
        loss = log(exp s_target + sum of exp(s_w) / (K q_w) over sampled w that are not the target) - s_target

    Here y is an output of the last layer, e_w the embedding of token w and s_w its logit. K tokens are sampled with
    replacement from the proposal q, the same ones for all targets (Bengio and Senecal 2008; Jean et al. 2015,
    arXiv:1412.2007). The gradient approaches that of the full softmax as K grows, and a target costs K products
    instead of V.

    Args:
        key: a JAX random key.
        params: made by ``init_language_model``.
        ys: ``[..., E]``, outputs of ``apply``.
        targets: integers ``[...]``, the next tokens.
        log_proposal: ``[V]``, log q up to a constant, such as 0.75 times the log of each token's count.
        num_samples: K, the number of sampled tokens, at least 1.
    Returns:
        the losses ``[...]`` in nats, at least float32.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import language_model
        >>> key = jax.random.key(0)
        >>> params = language_model.init_language_model(key, 50, embedding_size=8)
        >>> ys, targets, log_proposal = jnp.ones((12, 4, 8)), jnp.ones((12, 4), int), jnp.zeros(50)
        >>> language_model.sampled_softmax_loss(key, params, ys, targets, log_proposal, 10).shape
        (12, 4)
    """
    sum_dtype = accumulator_dtype(ys.dtype)
    targets, embedding, bias = jnp.asarray(targets), params.embedding, params.bias.astype(sum_dtype)
    log_proposal = jax.nn.log_softmax(log_proposal.astype(sum_dtype))
    cumulative = jnp.cumsum(jnp.exp(log_proposal))
    quantiles = cumulative[-1] * jax.random.uniform(key, (num_samples,), sum_dtype)
    sampled = jnp.searchsorted(cumulative, quantiles).astype(targets.dtype)
    target_logits = jnp.sum((ys * embedding[targets]).astype(sum_dtype), axis=-1) + bias[targets]
    corrected_bias = bias - log_proposal - math.log(num_samples)
    sampled_logits = add_bias((ys @ embedding[sampled].T).astype(sum_dtype), corrected_bias[sampled])
    is_target = jnp.expand_dims(sampled, range(targets.ndim)) == targets[..., None]
    sampled_logits = jnp.where(is_target, -jnp.inf, sampled_logits)
    return jnp.logaddexp(target_logits, jax.nn.logsumexp(sampled_logits, axis=-1)) - target_logits
