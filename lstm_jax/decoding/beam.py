"""Beam search over tokens with a length penalty.

``beam_search`` decodes one sequence with a ``Step`` (see ``decoding.tokens``); use ``jax.vmap`` for a batch. Letters: T
maximum length, K beams, V vocabulary size.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import PyTree
from lstm_jax.decoding.tokens import NEG_INF, DecodeResult, Step, check_eos_token


class BeamState(NamedTuple):
    """The state of a beam search: K live sequences, which can be extended, and the K best finished sequences."""

    num_tokens: jax.Array
    """the number of tokens of each live sequence, a scalar"""
    live_states: PyTree
    """``[K, ...]``, the model state of each live sequence before its last token is read"""
    live_tokens: jax.Array
    """``[K, T]``, padded with ``eos_token``"""
    live_log_probs: jax.Array
    """``[K]``, -inf for an empty beam"""
    finished: DecodeResult
    """``[K, ...]``, sorted by score, best first; the score is -inf where fewer than K sequences have finished"""


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
    """Searches for the most probable token sequences with a beam of ``beam_size``.

        score = log p(tokens) / ((5 + n) / 6)^length_penalty        n tokens, including ``eos_token``

    The length penalty is that of Wu et al. 2016 (arXiv:1609.08144). The search keeps K live and K finished sequences,
    and stops when no live sequence can still enter the finished ones. Sequences without ``eos_token`` after
    ``max_length`` tokens are returned unfinished, ranked after all finished sequences.

    Args:
        step: ``step(params, state, token) -> (state, logits [V])``, the same function object in every call.
        params: the first argument of ``step``, shared by all beams.
        state: the model state of one sequence before ``start_token`` is read.
        start_token: the first token to read; it is not part of the result.
        beam_size: K, the number of sequences to keep and return, at least 1.
        max_length: T, the maximum number of tokens including ``eos_token``, at least 1.
        eos_token: the token that ends a sequence.
        length_penalty: the exponent in the score; 0 ranks by log probability, which favors short sequences, and
            larger values favor longer sequences.
    Returns:
        DecodeResult: ``tokens [K, T]``, ``length [K]`` and ``score [K]``, sorted by score, best first; the score is
        -inf where fewer than K sequences exist.
    Raises:
        ValueError: if ``beam_size`` or ``max_length`` is below 1, or ``eos_token`` is not in 0 to V - 1.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> logits = jnp.log(jnp.array([[0.0, 0.6, 0.4], [0.3, 0.4, 0.3], [0.9, 0.05, 0.05]]))  # of the next token
        >>> def step(params, state, token):
        ...     return state, logits[token]
        >>> best = lj.decoding.beam_search(step, None, (), 0, beam_size=3, max_length=4, eos_token=0)
        >>> best.tokens[0].tolist(), int(best.length[0])
        ([2, 0, 0, 0], 1)
    """
    if beam_size < 1:
        raise ValueError(f"beam_size: got {beam_size}, want at least 1")
    if max_length < 1:
        raise ValueError(f"max_length: got {max_length}, want at least 1")
    exponent = jnp.asarray(length_penalty, jnp.float32)
    penalties = ((5 + jnp.arange(max_length + 1, dtype=jnp.float32)) / 6) ** exponent  # indexed by the number of tokens

    def advance(beams: BeamState) -> BeamState:
        return _extend_beams(step, params, beams, jnp.int32(start_token), eos_token, penalties)

    def can_improve(beams: BeamState) -> jax.Array:
        # Log probabilities never increase, so dividing by the largest penalty bounds every future score.
        best_score = jnp.max(beams.live_log_probs) / jnp.max(penalties[1:])
        return (beams.num_tokens < max_length) & (best_score > beams.finished.score[-1])

    beams = jax.lax.while_loop(can_improve, advance, _init_beams(state, beam_size, max_length, eos_token))
    return _add_unfinished(beams, penalties)


def _init_beams(state: PyTree, beam_size: int, max_length: int, eos_token: int) -> BeamState:
    """Returns a beam state with one live sequence of no tokens; the other beams are empty."""
    tokens = jnp.full((beam_size, max_length), eos_token, jnp.int32)
    no_score = jnp.full(beam_size, NEG_INF, jnp.float32)
    return BeamState(
        num_tokens=jnp.int32(0),
        live_states=jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (beam_size, *jnp.shape(leaf))), state),
        live_tokens=tokens,
        live_log_probs=no_score.at[0].set(0.0),
        finished=DecodeResult(tokens, jnp.zeros(beam_size, jnp.int32), no_score),
    )


def _extend_beams(
    step: Step, params: PyTree, beams: BeamState, start_token: jax.Array, eos_token: int, penalties: jax.Array
) -> BeamState:
    """Extends each live sequence by every token.

    Sequences extended by ``eos_token`` compete with the finished sequences for their K places. The K best of all other
    extensions become the live sequences.
    """
    num_tokens = beams.num_tokens
    beam_size = len(beams.live_log_probs)
    last_tokens = jnp.where(num_tokens == 0, start_token, beams.live_tokens[:, num_tokens - 1])
    states, logits = jax.vmap(step, in_axes=(None, 0, 0))(params, beams.live_states, last_tokens)
    check_eos_token(eos_token, logits[0])
    log_probs = beams.live_log_probs[:, None] + jax.nn.log_softmax(logits.astype(jnp.float32))  # [K, V]

    newly_finished = DecodeResult(
        beams.live_tokens, jnp.full(beam_size, num_tokens), log_probs[:, eos_token] / penalties[num_tokens + 1]
    )
    candidates = jax.tree.map(lambda old, new: jnp.concatenate([old, new]), beams.finished, newly_finished)
    finished_index = jax.lax.top_k(candidates.score, beam_size)[1]

    live_log_probs, flat_index = jax.lax.top_k(log_probs.at[:, eos_token].set(NEG_INF).ravel(), beam_size)
    parent, token = jnp.divmod(flat_index, log_probs.shape[1])
    return BeamState(
        num_tokens=num_tokens + 1,
        live_states=jax.tree.map(lambda leaf: leaf[parent], states),
        live_tokens=beams.live_tokens[parent].at[:, num_tokens].set(token.astype(jnp.int32)),
        live_log_probs=live_log_probs,
        finished=jax.tree.map(lambda leaf: leaf[finished_index], candidates),
    )


def _add_unfinished(beams: BeamState, penalties: jax.Array) -> DecodeResult:
    """Returns the finished sequences; if the search reached ``max_length``, live sequences fill the empty places."""
    beam_size, max_length = beams.live_tokens.shape
    log_probs = jnp.where(beams.num_tokens == max_length, beams.live_log_probs, NEG_INF)
    unfinished = DecodeResult(beams.live_tokens, jnp.full(beam_size, max_length), log_probs / penalties[max_length])
    is_free = jnp.isinf(beams.finished.score)
    rank = jnp.cumsum(is_free) - 1  # the k-th free place gets the k-th best live sequence

    def fill(finished: jax.Array, live: jax.Array) -> jax.Array:
        return jnp.where(is_free.reshape(-1, *[1] * (finished.ndim - 1)), live[rank], finished)

    result: DecodeResult = jax.tree.map(fill, beams.finished, unfinished)
    return result
