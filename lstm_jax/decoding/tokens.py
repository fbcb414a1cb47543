"""Decoding: tokens drawn or searched one after another from a model's scores of the next one.

Everything here decodes one sequence; ``jax.vmap`` decodes a batch. The model is a function

    step(params, state, token) -> (state, logits [V])

given as it is, not as a new lambda a call: each function is compiled once for each ``step``. What does not change from
token to token, such as a memory to attend to, belongs into ``params``, which the beams of a sequence share:

    best = jax.vmap(partial(beam_search, step, beams=5, length=40, end=2), in_axes=((None, 1), 0, None))
    best((weights, memory), states, first).tokens[:, 0]

Letters: T tokens, K beams, V the vocabulary.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import PyTree

Step = Callable[[PyTree, PyTree, jax.Array], tuple[PyTree, jax.Array]]
NEG_INF = -jnp.inf


class DecodeResult(NamedTuple):
    """Tokens; beam search has a leading axis of beams on each, the best first."""

    tokens: jax.Array
    """``[T]``; behind its end a sequence is filled up with ``end``"""
    length: jax.Array
    """tokens before the end, at most T"""
    score: jax.Array
    """log probability of the tokens, the end included; of beam search, divided by the penalty of their number"""


def keep_top_k(logits: jax.Array, k: int) -> jax.Array:
    """The ``k`` largest of ``logits [V]``, and what equals the least of them; the others -inf (Fan et al. 2018)."""
    if k < 1:
        raise ValueError(f"top_k: got {k}, want at least 1")
    least = jax.lax.top_k(logits, min(k, logits.shape[-1]))[0][-1]
    return jnp.where(logits >= least, logits, NEG_INF)


def keep_top_p(logits: jax.Array, p: float | jax.Array) -> jax.Array:
    """The fewest most probable of ``logits [V]`` that reach probability ``p`` together, at least one; the others -inf
    (Holtzman et al. 2020, arXiv:1904.09751)."""
    order = jnp.argsort(-logits)
    probabilities = jax.nn.softmax(logits[order])
    before = jnp.cumsum(probabilities) - probabilities
    kept = (before < p).at[0].set(True)
    return jnp.where(jnp.zeros_like(kept).at[order].set(kept), logits, NEG_INF)


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
    """Draws tokens, each from softmax(logits / temperature), and reads each back.

    Args:
        step, params: the model.
        state: before the first token.
        first: the token read first; it is not among those returned.
        length: tokens to draw, at most.
        temperature: above 0; below 1 prefers what is probable, 1 is the model itself.
        top_k: only among the most probable so many; then ``top_p``: only among the fewest that reach this probability.
        end: the token that ends a sequence; None means there is none.
    Returns:
        DecodeResult: its score is the log probability by what was drawn from, temperature and truncation included.
    """

    def choose(logits: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = logits / temperature
        logits = logits if top_k is None else keep_top_k(logits, top_k)
        logits = logits if top_p is None else keep_top_p(logits, top_p)
        token = jax.random.categorical(key, logits)
        return token, jax.nn.log_softmax(logits)[token]

    return _one_by_one(step, params, state, start_token, choose, jax.random.split(key, max_length), eos_token)


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
    """The most probable token each time; arguments as for ``sample``."""

    def choose(logits: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
        token = jnp.argmax(logits)
        return token, jax.nn.log_softmax(logits)[token]

    return _one_by_one(step, params, state, start_token, choose, jnp.arange(max_length), eos_token)


def _one_by_one(
    step: Step,
    params: PyTree,
    state: PyTree,
    first: jax.Array | int,
    choose: Callable[[jax.Array, Any], tuple[jax.Array, jax.Array]],
    draws: jax.Array,
    end: int | None,
) -> DecodeResult:
    def advance(carry: tuple, draw: Any) -> tuple[tuple, tuple]:
        state, token, ended = carry
        state, logits = step(params, state, token)
        check_eos_token(end, logits)
        token, score = choose(logits.astype(jnp.float32), draw)
        token = token.astype(jnp.int32)
        if end is None:
            return (state, token, ended), (token, score, ended)
        token, score = jnp.where(ended, end, token), jnp.where(ended, 0.0, score)
        after = ended | (token == end)
        return (state, token, after), (token, score, after)

    start = (state, jnp.asarray(first, jnp.int32), jnp.asarray(False))
    _, (tokens, scores, ended) = jax.lax.scan(advance, start, draws)
    return DecodeResult(tokens, jnp.sum(~ended, dtype=jnp.int32), jnp.sum(scores))


def check_eos_token(end: int | None, logits: jax.Array) -> None:
    """The token that ends a sequence is one of those scored."""
    if end is not None and not 0 <= end < logits.shape[-1]:
        raise ValueError(f"end: got {end}, want a token from 0 to {logits.shape[-1] - 1}")


class BeamState(NamedTuple):
    """Sequences under way and ended, K of each, and where the search is."""

    number: jax.Array
    """tokens so far"""
    state: PyTree
    """``[K, ...]``"""
    tokens: jax.Array
    """``[K, T]`` of those under way"""
    score: jax.Array
    """``[K]``, log probability"""
    ended: DecodeResult
    """``[K, ...]``, the best first"""


@partial(jax.jit, static_argnames=("step", "beam_size", "max_length", "eos_token"))
def beam_search(
    step: Step,
    params: PyTree,
    state: PyTree,
    start_token: jax.Array | int,
    *,
    beam_size: int,
    max_length: int,
    eos_token: int,
    length_penalty: float | jax.Array = 0.6,
) -> DecodeResult:
    """The most probable sequences that a beam of ``beams`` finds, the best first.

        score = log p(tokens) / ((5 + n) / 6)^length_penalty        n tokens, the end included

    (Wu et al. 2016, arXiv:1609.08144.) Sequences under way and ended ones are kept apart, so that neither crowds out
    the other; the search stops when nothing under way can still beat what has ended. One that has not ended after
    ``length`` tokens counts as it is, behind every one that has ended.

    Args:
        state: before the first token, of one sequence.
        first: the token read first; it is not among those returned.
        length: tokens at most, the end included.
        end: the token that ends a sequence.
        length_penalty: 0 adds up log probabilities and so prefers what is short; the larger, the more it likes length.
    Returns:
        DecodeResult: ``tokens [K, T]``, ``length [K]``, ``score [K]``; -inf where there are fewer than K.
    """
    if beam_size < 1 or max_length < 1:
        raise ValueError(f"beams, length: got {beam_size} and {max_length}, want at least 1 of each")
    power = jnp.asarray(length_penalty, jnp.float32)
    penalty = ((5 + jnp.arange(max_length + 1, dtype=jnp.float32)) / 6) ** power

    def advance(search: BeamState) -> BeamState:
        return _extend(jax.vmap(step, in_axes=(None, 0, 0)), params, search, jnp.int32(start_token), eos_token, penalty)

    def goes_on(search: BeamState) -> jax.Array:
        best = jnp.max(search.score) / jnp.max(penalty[1:])  # log p only falls, and is divided by this at most
        return (search.number < max_length) & (best > search.ended.score[-1])

    found = jax.lax.while_loop(goes_on, advance, _start(state, beam_size, max_length, eos_token))
    cut = DecodeResult(
        found.tokens, jnp.full(beam_size, max_length), jnp.where(found.number == max_length, found.score, NEG_INF)
    )
    cut = cut._replace(score=cut.score / penalty[max_length])
    unended = jnp.isinf(found.ended.score)
    filled = jax.tree.map(
        lambda ended, under_way: jnp.where(
            unended.reshape(-1, *[1] * (ended.ndim - 1)), under_way[jnp.cumsum(unended) - 1], ended
        ),
        found.ended,
        cut,
    )
    return DecodeResult(*filled)


def _start(state: PyTree, beams: int, length: int, end: int) -> BeamState:
    """One sequence without tokens; the other beams are impossible."""
    tokens = jnp.full((beams, length), end, jnp.int32)
    score = jnp.full(beams, NEG_INF, jnp.float32)
    states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (beams, *jnp.shape(leaf))), state)
    ended = DecodeResult(tokens, jnp.zeros(beams, jnp.int32), score)
    return BeamState(jnp.int32(0), states, tokens, score.at[0].set(0.0), ended)


def _extend(
    steps: Callable[..., tuple[PyTree, jax.Array]],
    params: PyTree,
    search: BeamState,
    first: jax.Array,
    end: int,
    penalty: jax.Array,
) -> BeamState:
    """Every sequence under way by every token; the best that end join those that have ended."""
    number, beams = search.number, len(search.score)
    last = jnp.where(number == 0, first, search.tokens[:, number - 1])
    states, logits = steps(params, search.state, last)
    check_eos_token(end, logits[0])
    scores = search.score[:, None] + jax.nn.log_softmax(logits.astype(jnp.float32))
    ending = DecodeResult(search.tokens, jnp.full(beams, number), scores[:, end] / penalty[number + 1])
    both = jax.tree.map(lambda old, new: jnp.concatenate([old, new]), search.ended, ending)
    order = jax.lax.top_k(both.score, beams)[1]
    ended = jax.tree.map(lambda leaf: leaf[order], both)
    score, place = jax.lax.top_k(scores.at[:, end].set(NEG_INF).ravel(), beams)
    parent, token = jnp.divmod(place, scores.shape[1])
    tokens = search.tokens[parent].at[:, number].set(token.astype(jnp.int32))
    return BeamState(number + 1, jax.tree.map(lambda leaf: leaf[parent], states), tokens, score, DecodeResult(*ended))
