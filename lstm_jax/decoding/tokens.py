"""Autoregressive decoding: sampling and greedy search from a model's next-token logits.

Each function decodes one sequence; use ``jax.vmap`` for a batch. The model is a ``Step``, a function

    step(params, state, token) -> (state, logits [V])

Pass the same function object in every call, because the decoders are compiled once per ``step``; a new lambda compiles
again. Put arrays that are constant across tokens, such as an attention memory, into ``params``:

    search = partial(beam_search, step, beam_size=5, max_length=40, eos_token=2)
    best = jax.vmap(search, in_axes=((None, 1), 0, None))((weights, memory), states, start_token)
    best.tokens[:, 0]                                     # the best beam of each sequence

Letters: T maximum length, K beams, V vocabulary size.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import PyTree

Step = Callable[[PyTree, PyTree, jax.Array], tuple[PyTree, jax.Array]]
"""``step(params, state, token) -> (state, logits)`` reads one integer token of one sequence and returns the next-token
logits ``[V]``. Examples are ``models.language_model.decode_step`` and ``models.seq2seq.decode_step``."""
NEG_INF = -jnp.inf
"""the log probability of an impossible event"""


class DecodeResult(NamedTuple):
    """Decoded tokens with their score; in the results of beam search each field has a leading axis of K beams."""

    tokens: jax.Array
    """``[T]``, int32, padded after the end of the sequence with ``eos_token``, or with the blank for CTC"""
    length: jax.Array
    """the number of tokens before ``eos_token``, at most T; the number of labels for CTC"""
    score: jax.Array
    """the log probability of the tokens including ``eos_token``; ``beam_search`` divides it by the length penalty"""


def keep_top_k(logits: jax.Array, k: int) -> jax.Array:
    """Masks all logits except the k largest and ties with the k-th (top-k sampling, Fan, Lewis and Dauphin 2018).

    Args:
        logits: ``[V]``.
        k: number of logits to keep, at least 1; V or more keeps all.
    Returns:
        The logits ``[V]``, with -inf where masked.
    Raises:
        ValueError: if ``k`` is below 1.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> lj.decoding.keep_top_k(jnp.array([1.0, 3.0, 2.0]), 2).tolist()
        [-inf, 3.0, 2.0]
    """
    if k < 1:
        raise ValueError(f"top_k: got {k}, want at least 1")
    smallest_kept = jax.lax.top_k(logits, min(k, logits.shape[-1]))[0][-1]
    return jnp.where(logits >= smallest_kept, logits, NEG_INF)


def keep_top_p(logits: jax.Array, p: float | jax.Array) -> jax.Array:
    """Masks all logits except the smallest set of most probable tokens with total probability at least p.

    This set is the nucleus of nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751).

    Args:
        logits: ``[V]``.
        p: probability of the nucleus, 0 to 1; at least one token is kept.
    Returns:
        The logits ``[V]``, with -inf where masked.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> logits = jnp.log(jnp.array([0.1, 0.6, 0.3]))
        >>> jnp.isfinite(lj.decoding.keep_top_p(logits, 0.8)).tolist()
        [False, True, True]
    """
    order = jnp.argsort(-logits)
    probabilities = jax.nn.softmax(logits[order])
    preceding = jnp.cumsum(probabilities) - probabilities
    is_kept = (preceding < p).at[0].set(True)
    return jnp.where(jnp.zeros_like(is_kept).at[order].set(is_kept), logits, NEG_INF)


@partial(jax.jit, static_argnames=("step", "max_length", "top_k", "eos_token"))
def sample(
    key: jax.Array,
    step: Step,
    params: PyTree,
    state: PyTree,
    start_token: jax.Array | int,
    *,
    max_length: int,
    temperature: float | jax.Array = 1.0,
    top_k: int | None = None,
    top_p: float | jax.Array | None = None,
    eos_token: int | None = None,
) -> DecodeResult:
    """Samples tokens from softmax(logits / temperature), feeding each token back to the model.

    Args:
        key: a JAX random key.
        step: ``step(params, state, token) -> (state, logits [V])``, the same function object in every call.
        params: the first argument of ``step``.
        state: the model state before ``start_token`` is read.
        start_token: the first token to read; it is not part of the result.
        max_length: T, the number of tokens to sample.
        temperature: divisor of the logits, above 0; 1 samples from the model's distribution, lower values favor
            probable tokens.
        top_k: sample only from the ``top_k`` most probable tokens; None means all.
        top_p: sample only from the nucleus of this probability, applied after ``top_k``; None means all tokens.
        eos_token: the token that ends a sequence; None decodes ``max_length`` tokens.
    Returns:
        DecodeResult: ``tokens [T]``, ``length``, and ``score``, the log probability under the sampling distribution,
        which includes temperature and truncation.
    Raises:
        ValueError: if ``top_k`` is below 1, or ``eos_token`` is not in 0 to V - 1.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> def step(params, state, token):  # token + 1 is the most probable next token
        ...     return state, params * jax.nn.one_hot((token + 1) % 5, 5)
        >>> lj.decoding.sample(jax.random.key(0), step, 50.0, (), 0, max_length=4).tokens.tolist()
        [1, 2, 3, 4]
    """

    def choose(logits: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = logits / temperature
        logits = logits if top_k is None else keep_top_k(logits, top_k)
        logits = logits if top_p is None else keep_top_p(logits, top_p)
        token = jax.random.categorical(key, logits)
        return token, jax.nn.log_softmax(logits)[token]

    return _decode(step, params, state, start_token, choose, jax.random.split(key, max_length), eos_token)


@partial(jax.jit, static_argnames=("step", "max_length", "eos_token"))
def greedy(
    step: Step,
    params: PyTree,
    state: PyTree,
    start_token: jax.Array | int,
    *,
    max_length: int,
    eos_token: int | None = None,
) -> DecodeResult:
    """Decodes the most probable token at each step, feeding it back to the model.

    Args:
        step: ``step(params, state, token) -> (state, logits [V])``, the same function object in every call.
        params: the first argument of ``step``.
        state: the model state before ``start_token`` is read.
        start_token: the first token to read; it is not part of the result.
        max_length: T, the number of tokens to decode.
        eos_token: the token that ends a sequence; None decodes ``max_length`` tokens.
    Returns:
        DecodeResult: ``tokens [T]``, ``length``, and ``score``, the log probability of the tokens.
    Raises:
        ValueError: if ``eos_token`` is not in 0 to V - 1.

    Example:
        >>> import jax, lstm_jax as lj
        >>> def step(params, state, token):  # token + 1 is the most probable next token
        ...     return state, jax.nn.one_hot((token + 1) % 5, 5)
        >>> result = lj.decoding.greedy(step, None, (), 0, max_length=6, eos_token=4)
        >>> result.tokens.tolist(), int(result.length)
        ([1, 2, 3, 4, 4, 4], 3)
    """

    def choose(logits: jax.Array, _: jax.Array) -> tuple[jax.Array, jax.Array]:
        token = jnp.argmax(logits)
        return token, jax.nn.log_softmax(logits)[token]

    return _decode(step, params, state, start_token, choose, jnp.arange(max_length), eos_token)


def _decode(
    step: Step,
    params: PyTree,
    state: PyTree,
    start_token: jax.Array | int,
    choose: Callable[[jax.Array, Any], tuple[jax.Array, jax.Array]],
    choose_inputs: jax.Array,
    eos_token: int | None,
) -> DecodeResult:
    """Decodes T tokens with ``choose(logits, choose_input) -> (token, log_prob)``, given ``choose_inputs [T, ...]``."""

    def advance(carry: tuple, choose_input: Any) -> tuple[tuple, tuple]:
        state, token, has_ended = carry
        state, logits = step(params, state, token)
        check_eos_token(eos_token, logits)
        token, log_prob = choose(logits.astype(jnp.float32), choose_input)
        token = token.astype(jnp.int32)
        if eos_token is None:
            return (state, token, has_ended), (token, log_prob, has_ended)
        token = jnp.where(has_ended, eos_token, token)
        log_prob = jnp.where(has_ended, 0.0, log_prob)
        has_ended = has_ended | (token == eos_token)
        return (state, token, has_ended), (token, log_prob, has_ended)

    carry = (state, jnp.asarray(start_token, jnp.int32), jnp.asarray(False))
    _, (tokens, log_probs, has_ended) = jax.lax.scan(advance, carry, choose_inputs)
    return DecodeResult(tokens, jnp.sum(~has_ended, dtype=jnp.int32), jnp.sum(log_probs))


def check_eos_token(eos_token: int | None, logits: jax.Array) -> None:
    """Raises a ValueError unless ``eos_token`` is None or a token of the vocabulary.

    Args:
        eos_token: the token that ends a sequence, or None.
        logits: ``[V]``, next-token logits.
    Raises:
        ValueError: if ``eos_token`` is not in 0 to V - 1.
    """
    if eos_token is not None and not 0 <= eos_token < logits.shape[-1]:
        raise ValueError(f"eos_token: got {eos_token}, want a token from 0 to {logits.shape[-1] - 1}")
