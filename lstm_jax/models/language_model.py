"""An LSTM language model with tied input and output embeddings, and the dropout of AWD-LSTM.

    ys = layers(embedding[tokens])                 [T, *batch, E]; the last LSTM layer has hidden size E
    logits = ys embedding^T + b                    tied weights (Press and Wolf 2017, arXiv:1608.05859)

Letters: V vocabulary size, E embedding size. AWD-LSTM (Merity, Keskar and Socher 2018, arXiv:1708.02182) drops whole
rows of the embedding, recurrent weights, and, with one mask for all steps, inputs, activations between layers and
outputs.
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
    """Parameters of the language model, initialized by ``init_language_model``."""

    embedding: jax.Array
    """``[V, E]``, the input embedding and the output kernel"""
    layers: tuple[Any, ...]
    """parameters of ``lstm_stack``; the last layer has hidden size E"""
    bias: jax.Array
    """``[V]``, the output bias"""


class DropoutRates(NamedTuple):
    """The five dropout rates of AWD-LSTM; 0 disables dropout in that place."""

    embedding: Rate = 0.0
    """rate of whole rows of the embedding: a dropped token is 0 at all its occurrences"""
    input: Rate = 0.0
    """rate of the elements of embedded tokens"""
    hidden: Rate = 0.0
    """rate of the activations between layers"""
    output: Rate = 0.0
    """rate of the last layer's outputs"""
    weight: Rate = 0.0
    """rate of the recurrent weights of each layer"""


class LanguageModelOutput(NamedTuple):
    """Final states and outputs of the language model on one segment of text."""

    states: tuple[Any, ...]
    """the final state of each layer; pass it to the next call to continue the text"""
    ys: jax.Array
    """``[T, *batch, E]``, the last layer's outputs after dropout, the input of ``logits``"""
    raw_ys: jax.Array
    """``[T, *batch, E]``, the last layer's outputs before dropout, for ``regularizers.temporal_activation_penalty``"""


def init_language_model(
    key: jax.Array,
    vocab_size: int,
    *,
    embedding_size: int = 200,
    hidden_size: int = 200,
    num_layers: int = 2,
    dtype: DTypeLike = jnp.float32,
) -> LanguageModelParams:
    """Initializes the parameters of a language model.

    Embeddings are normal with standard deviation 0.1.

    Args:
        key: a JAX random key.
        vocab_size: V, the number of tokens.
        embedding_size: E, the embedding size and the hidden size of the last layer.
        hidden_size: H, the hidden size of all layers except the last.
        num_layers: number of LSTM layers, at least 1.
        dtype: dtype of the parameters; half-precision parameters are sampled in float32 and cast.
    Returns:
        LanguageModelParams: the parameters for ``apply``, ``logits``, ``decode_step`` and ``sampled_softmax_loss``.
    Raises:
        ValueError: if ``num_layers``, ``embedding_size`` or ``hidden_size`` is below 1.

    Example:
        >>> import jax
        >>> from lstm_jax.models import language_model
        >>> params = language_model.init_language_model(jax.random.key(0), 50, embedding_size=8, hidden_size=16)
        >>> params.embedding.shape, len(params.layers)
        ((50, 8), 2)
    """
    if num_layers < 1:
        raise ValueError(f"num_layers: got {num_layers}, want at least 1")
    keys = jax.random.split(key, num_layers + 1)
    layer_sizes = pairwise([embedding_size, *[hidden_size] * (num_layers - 1), embedding_size])
    layers = tuple(
        init_params(layer_key, input_size, output_size, dtype=dtype)
        for layer_key, (input_size, output_size) in zip(keys[1:], layer_sizes, strict=True)
    )
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
    """Runs the language model over a segment of text; ``logits`` maps its outputs to next-token logits.

    Args:
        params: parameters from ``init_language_model``.
        states: the initial state of each layer, from the previous segment or ``stack_zero_state``; None means zeros.
        tokens: integers ``[T, *batch]``.
        resets: bool ``[T, *batch]``, True where the states are reset to zero before the step, as in ``lstm``; None
            means no resets.
        mask: bool ``[T, *batch]``, True at valid steps, as in ``lstm``; None means all steps.
        key: a JAX random key; None disables dropout.
        dropout_rates: the dropout rate of each place.
    Returns:
        LanguageModelOutput: the final states, and the outputs ``[T, *batch, E]`` after and before dropout.

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
    final_states, ys = lstm_stack(layers, xs, states, between=between, resets=resets, mask=mask)
    return LanguageModelOutput(final_states, locked_dropout(output_key, ys, dropout_rates.output), ys)


def logits(params: LanguageModelParams, ys: jax.Array) -> jax.Array:
    """Computes the next-token logits ``ys embedding^T + b`` with the tied embedding.

    Args:
        params: parameters from ``init_language_model``.
        ys: ``[..., E]``, the outputs of ``apply``.
    Returns:
        The logits ``[..., V]``.

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
    """Computes the next-token logits after one token of one sequence; this is a ``step`` for ``lstm_jax.decoding``.

    Args:
        params: parameters from ``init_language_model``.
        states: the state of each layer; start with ``stack_zero_state(params.layers)``.
        token: the token to read, an integer scalar.
    Returns:
        (states, logits): the new state of each layer and the next-token logits ``[V]``.

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
    """Estimates the loss -log p(target) by a softmax over sampled tokens, for training with a large vocabulary.

        s_w = y . e_w + b_w
        loss = log(exp s_target + sum of exp(s_w) / (K q_w) over sampled w other than the target) - s_target

    Here y is an output of the last layer, e_w the embedding of token w and s_w its logit. K tokens are sampled with
    replacement from the proposal q and shared by all targets (Bengio and Senecal 2008; Jean et al. 2015,
    arXiv:1412.2007). The gradient approaches that of the full softmax as K grows. Each target costs K dot products
    instead of V.

    Args:
        key: a JAX random key.
        params: parameters from ``init_language_model``.
        ys: ``[..., E]``, the outputs of ``apply``.
        targets: integers ``[...]``, the next tokens.
        log_proposal: ``[V]``, log q up to an additive constant, such as 0.75 times the log of each token count.
        num_samples: K, the number of sampled tokens, at least 1.
    Returns:
        The losses ``[...]`` in nats, in float32, or in float64 with float64 outputs.

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
    targets = jnp.asarray(targets)
    embedding = params.embedding
    bias = params.bias.astype(sum_dtype)
    log_q = jax.nn.log_softmax(log_proposal.astype(sum_dtype))
    cumulative_q = jnp.cumsum(jnp.exp(log_q))
    thresholds = cumulative_q[-1] * jax.random.uniform(key, (num_samples,), sum_dtype)
    sampled_tokens = jnp.searchsorted(cumulative_q, thresholds).astype(targets.dtype)
    target_logits = jnp.sum((ys * embedding[targets]).astype(sum_dtype), axis=-1) + bias[targets]
    corrected_bias = bias - log_q - math.log(num_samples)
    sampled_logits = add_bias((ys @ embedding[sampled_tokens].T).astype(sum_dtype), corrected_bias[sampled_tokens])
    is_target = jnp.expand_dims(sampled_tokens, range(targets.ndim)) == targets[..., None]
    other_logits = jnp.where(is_target, -jnp.inf, sampled_logits)
    return jnp.logaddexp(target_logits, jax.nn.logsumexp(other_logits, axis=-1)) - target_logits
