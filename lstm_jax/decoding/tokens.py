"""Decoding token by token: sequences sampled or searched from a model's logits of the next token.

Each function decodes one sequence; ``jax.vmap`` decodes a batch. The model is a ``Step``, a function

    step(params, state, token) -> (state, logits [V])

Pass the same function object in every call, not a new lambda: the decoders are compiled once for each ``step``. What
does not change from token to token, such as a memory to attend to, belongs in ``params``, which all beams share:

    search = partial(beam_search, step, beam_size=5, max_length=40, eos_token=2)
    best = jax.vmap(search, in_axes=((None, 1), 0, None))((weights, memory), states, start_token)
    best.tokens[:, 0]                                     # the best of each sequence

Letters: T tokens, K beams, V tokens of the vocabulary.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import PyTree

Step = Callable[[PyTree, PyTree, jax.Array], tuple[PyTree, jax.Array]]
"""``step(params, state, token) -> (state, logits)``: reads one token of one sequence, an integer, and scores the next
one, ``[V]``. Examples are ``models.language_model.decode_step`` and ``models.seq2seq.decode_step``."""
NEG_INF = -jnp.inf
"""the log probability of what is impossible"""


class DecodeResult(NamedTuple):
    """Decoded tokens with their score; beam search has an axis of K beams first on each field, the best first."""

    tokens: jax.Array
    """``[T]``, int32; after its end a sequence is padded with ``eos_token``, or with the blank of CTC"""
    length: jax.Array
    """the number of tokens before the end, at most T"""
    score: jax.Array
    """the log probability of the tokens, the end included; from ``beam_search`` divided by the length penalty"""


def keep_top_k(logits: jax.Array, k: int) -> jax.Array:
    """Keeps the k largest logits, and any that equal the smallest of them (Fan, Lewis and Dauphin 2018).

    Args:
        logits: ``[V]``.
        k: the number to keep, at least 1; V or more keeps all.
    Returns:
        the logits ``[V]``, -inf where they are not kept.
    Raises:
        ValueError: ``k`` is below 1.

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
    """Keeps the nucleus: the fewest most probable tokens whose probabilities sum to at least p (Holtzman et al. 2020,
    arXiv:1904.09751).

    Args:
        logits: ``[V]``.
        p: the probability to reach, 0 to 1; at least one token is kept.
    Returns:
        the logits ``[V]``, -inf where they are not kept.

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
    """Samples tokens one after another, each from softmax(logits / temperature), and feeds each back to the model.

    Args:
        key: a JAX random key.
        step: ``step(params, state, token) -> (state, logits [V])``, the same function object in every call.
        params: what ``step`` takes first.
        state: the model's state before ``start_token``.
        start_token: the token that is read first; it is not part of the result.
        max_length: T, the number of tokens to sample.
        temperature: above 0; 1 is the model's own distribution, below 1 favors probable tokens.
        top_k: samples from the ``top_k`` most probable tokens only; None means all.
        top_p: samples from the fewest tokens that reach this probability only, after ``top_k``; None means all.
        eos_token: the token that ends a sequence; None means that none does.
    Returns:
        DecodeResult: ``tokens [T]``, ``length`` and ``score``, the log probability under the distribution sampled
        from, temperature and truncation included.
    Raises:
        ValueError: ``top_k`` is below 1, or ``eos_token`` is not a token.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> def step(params, state, token):  # the next token is probably the following one
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
    """Takes the most probable token at each step and feeds it back to the model.

    Args:
        step: ``step(params, state, token) -> (state, logits [V])``, the same function object in every call.
        params: what ``step`` takes first.
        state: the model's state before ``start_token``.
        start_token: the token that is read first; it is not part of the result.
        max_length: T, the number of tokens to decode.
        eos_token: the token that ends a sequence; None means that none does.
    Returns:
        DecodeResult: ``tokens [T]``, ``length`` and ``score``.
    Raises:
        ValueError: ``eos_token`` is not a token.

    Example:
        >>> import jax, lstm_jax as lj
        >>> def step(params, state, token):  # the most probable token is the following one
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
    """Decodes one token for each of ``choose_inputs [T, ...]`` by ``choose(logits, input) -> (token, log_prob)``."""

    def advance(carry: tuple, choose_input: Any) -> tuple[tuple, tuple]:
        state, token, has_ended = carry
        state, logits = step(params, state, token)
        check_eos_token(eos_token, logits)
        token, log_prob = choose(logits.astype(jnp.float32), choose_input)
        token = token.astype(jnp.int32)
        if eos_token is None:
            return (state, token, has_ended), (token, log_prob, has_ended)
        token, log_prob = jnp.where(has_ended, eos_token, token), jnp.where(has_ended, 0.0, log_prob)
        has_ended = has_ended | (token == eos_token)
        return (state, token, has_ended), (token, log_prob, has_ended)

    carry = (state, jnp.asarray(start_token, jnp.int32), jnp.asarray(False))
    _, (tokens, log_probs, has_ended) = jax.lax.scan(advance, carry, choose_inputs)
    return DecodeResult(tokens, jnp.sum(~has_ended, dtype=jnp.int32), jnp.sum(log_probs))


def check_eos_token(eos_token: int | None, logits: jax.Array) -> None:
    """Raises unless ``eos_token`` is None or one of the tokens that the logits score.

    Args:
        eos_token: the token that ends a sequence, or None.
        logits: ``[V]``.
    Raises:
        ValueError: ``eos_token`` is not from 0 to V - 1.
    """
    if eos_token is not None and not 0 <= eos_token < logits.shape[-1]:
        raise ValueError(f"eos_token: got {eos_token}, want a token from 0 to {logits.shape[-1] - 1}")
