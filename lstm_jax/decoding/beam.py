"""Beam search over tokens: the most probable sequences under a model, with a length penalty.

It decodes one sequence with a ``Step`` as ``decoding.tokens`` defines it; ``jax.vmap`` decodes a batch. Letters: T
tokens, K beams, V tokens of the vocabulary.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import PyTree
from lstm_jax.decoding.tokens import NEG_INF, DecodeResult, Step, check_eos_token


class BeamState(NamedTuple):
    """The state of a search: K live sequences, which may grow, and the K best that have finished."""

    num_tokens: jax.Array
    """the number of tokens of every live sequence"""
    live_states: PyTree
    """``[K, ...]``, the model's state of each live sequence, before its last token is read"""
    live_tokens: jax.Array
    """``[K, T]``, padded with ``eos_token``"""
    live_log_probs: jax.Array
    """``[K]``, -inf for a beam that holds no sequence"""
    finished: DecodeResult
    """``[K, ...]``, the best first; the score is -inf where fewer than K have finished"""


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
    """Searches for the most probable sequences, with a beam of ``beam_size``.

        score = log p(tokens) / ((5 + n) / 6)^length_penalty        n tokens, the end included

    (Wu et al. 2016, arXiv:1609.08144.) Live and finished sequences have K places each, so that neither crowds out the
    other; the search stops when no live sequence can still beat the K finished ones. A sequence that has not finished
    after ``max_length`` tokens is returned as it is, after all that have finished.

    Args:
        step: ``step(params, state, token) -> (state, logits [V])``, the same function object in every call.
        params: what ``step`` takes first, shared by all beams.
        state: the model's state before ``start_token``, of one sequence.
        start_token: the token that is read first; it is not part of the result.
        beam_size: K, the number of sequences to keep and to return, at least 1.
        max_length: T, the most tokens of a sequence, the end included, at least 1.
        eos_token: the token that ends a sequence.
        length_penalty: the exponent of the equation; 0 ranks by log probability, which favors short sequences, and
            larger values favor longer ones.
    Returns:
        DecodeResult: ``tokens [K, T]``, ``length [K]`` and ``score [K]``, the best first; the score is -inf where
        fewer than K sequences are possible.
    Raises:
        ValueError: ``beam_size`` or ``max_length`` is below 1, or ``eos_token`` is not a token.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> logits = jnp.log(jnp.array([[0.0, 0.6, 0.4], [0.3, 0.4, 0.3], [0.9, 0.05, 0.05]]))  # of each token's next
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
    penalties = ((5 + jnp.arange(max_length + 1, dtype=jnp.float32)) / 6) ** exponent  # by the number of tokens

    def advance(beams: BeamState) -> BeamState:
        return _read_tokens(step, params, beams, jnp.int32(start_token), eos_token, penalties)

    def can_improve(beams: BeamState) -> jax.Array:
        # A log probability only falls, and is divided by the largest penalty at most.
        best_score = jnp.max(beams.live_log_probs) / jnp.max(penalties[1:])
        return (beams.num_tokens < max_length) & (best_score > beams.finished.score[-1])

    beams = jax.lax.while_loop(can_improve, advance, _initial_beams(state, beam_size, max_length, eos_token))
    return _finish(beams, penalties)


def _initial_beams(state: PyTree, beam_size: int, max_length: int, eos_token: int) -> BeamState:
    """One live sequence without tokens; the other beams are empty."""
    tokens = jnp.full((beam_size, max_length), eos_token, jnp.int32)
    no_score = jnp.full(beam_size, NEG_INF, jnp.float32)
    return BeamState(
        num_tokens=jnp.int32(0),
        live_states=jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (beam_size, *jnp.shape(leaf))), state),
        live_tokens=tokens,
        live_log_probs=no_score.at[0].set(0.0),
        finished=DecodeResult(tokens, jnp.zeros(beam_size, jnp.int32), no_score),
    )


def _read_tokens(
    step: Step, params: PyTree, beams: BeamState, start_token: jax.Array, eos_token: int, penalties: jax.Array
) -> BeamState:
    """Reads the last token of each live sequence and extends it by every token.

    Those extended by ``eos_token`` compete with the finished ones; of the others the best K live on.
    """
    num_tokens, beam_size = beams.num_tokens, len(beams.live_log_probs)
    last_tokens = jnp.where(num_tokens == 0, start_token, beams.live_tokens[:, num_tokens - 1])
    states, logits = jax.vmap(step, in_axes=(None, 0, 0))(params, beams.live_states, last_tokens)
    check_eos_token(eos_token, logits[0])
    log_probs = beams.live_log_probs[:, None] + jax.nn.log_softmax(logits.astype(jnp.float32))  # [K, V]

    newly_finished = DecodeResult(
        beams.live_tokens, jnp.full(beam_size, num_tokens), log_probs[:, eos_token] / penalties[num_tokens + 1]
    )
    candidates = jax.tree.map(lambda old, new: jnp.concatenate([old, new]), beams.finished, newly_finished)
    best = jax.lax.top_k(candidates.score, beam_size)[1]

    live_log_probs, flat_index = jax.lax.top_k(log_probs.at[:, eos_token].set(NEG_INF).ravel(), beam_size)
    parent, token = jnp.divmod(flat_index, log_probs.shape[1])
    return BeamState(
        num_tokens=num_tokens + 1,
        live_states=jax.tree.map(lambda leaf: leaf[parent], states),
        live_tokens=beams.live_tokens[parent].at[:, num_tokens].set(token.astype(jnp.int32)),
        live_log_probs=live_log_probs,
        finished=jax.tree.map(lambda leaf: leaf[best], candidates),
    )


def _finish(beams: BeamState, penalties: jax.Array) -> DecodeResult:
    """The finished sequences, and in the places left over the live ones if the search ran to its last token."""
    beam_size, max_length = beams.live_tokens.shape
    log_probs = jnp.where(beams.num_tokens == max_length, beams.live_log_probs, NEG_INF)
    unfinished = DecodeResult(beams.live_tokens, jnp.full(beam_size, max_length), log_probs / penalties[max_length])
    is_free = jnp.isinf(beams.finished.score)
    rank = jnp.cumsum(is_free) - 1  # the k-th free place takes the k-th best live sequence

    def fill(finished: jax.Array, live: jax.Array) -> jax.Array:
        return jnp.where(is_free.reshape(-1, *[1] * (finished.ndim - 1)), live[rank], finished)

    result: DecodeResult = jax.tree.map(fill, beams.finished, unfinished)
    return result
