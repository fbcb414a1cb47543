"""Decoding for connectionist temporal classification: from scores of every frame to sequences of labels.

A path gives each frame a label or the blank; a labelling is its path without repetitions and then without blanks
(Graves et al. 2006). Training is ``optax.ctc_loss``, whose conventions these are: the blank is 0 unless said otherwise.

Everything here decodes one sequence; ``jax.vmap`` decodes a batch. Letters: T frames, V labels with the blank, K beams,
L labels at most.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax.decoding.tokens import NEG_INF, DecodeResult


@partial(jax.jit, static_argnames="blank")
def ctc_greedy(logits: jax.Array, num_frames: jax.Array | int, *, blank: int = 0) -> DecodeResult:
    """The labelling of the most probable path.

    Args:
        logits: ``[T, V]``; length: frames that are there.
    Returns:
        DecodeResult: ``tokens [T]``, filled up with the blank; the score is the log probability of the path.
    """
    logp = jax.nn.log_softmax(logits.astype(jnp.float32))
    best, there = jnp.argmax(logits, axis=-1).astype(jnp.int32), _there(logits, num_frames)
    before = jnp.concatenate([jnp.full(1, blank, best.dtype), best[:-1]])
    kept = there & (best != blank) & (best != before)
    place = jnp.where(kept, jnp.cumsum(kept, dtype=jnp.int32) - 1, len(best))
    tokens = jnp.full(len(best), blank, jnp.int32).at[place].set(best, mode="drop")
    return DecodeResult(tokens, jnp.sum(kept, dtype=jnp.int32), jnp.sum(jnp.max(logp, axis=-1), where=there))


def _there(logits: jax.Array, length: jax.Array | int) -> jax.Array:
    return jnp.arange(len(logits), dtype=jnp.int32) < jnp.asarray(length, jnp.int32)


class PrefixBeams(NamedTuple):
    """Labellings of the frames so far."""

    tokens: jax.Array
    """``[K, L]``, the blank behind the length"""
    length: jax.Array
    """``[K]``"""
    blank: jax.Array
    """``[K]``, log probability of all paths of it that end in the blank"""
    label: jax.Array
    """``[K]``, of those that end in its last label"""


@partial(jax.jit, static_argnames=("beam_size", "max_labels", "blank"))
def ctc_beam_search(
    logits: jax.Array, num_frames: jax.Array | int, *, beam_size: int, max_labels: int | None = None, blank: int = 0
) -> DecodeResult:
    """The most probable labellings that a beam of prefixes finds, the best first (Graves 2012; Hannun et al. 2014).

    The score of a labelling is the sum over all its paths that the beam kept: with enough beams, its log probability.

    Args:
        logits: ``[T, V]``; length: frames that are there.
        most: labels of a labelling at most; None means T.
    Returns:
        DecodeResult: ``tokens [K, L]``, ``length [K]``, ``score [K]``, -inf where there are fewer than K.
    """
    if beam_size < 1:
        raise ValueError(f"beams: got {beam_size}, want at least 1")
    steps = len(logits) if max_labels is None else max_labels
    logp = jax.nn.log_softmax(logits.astype(jnp.float32))
    none = jnp.full(beam_size, NEG_INF, jnp.float32)
    start = PrefixBeams(
        jnp.full((beam_size, steps), blank, jnp.int32), jnp.zeros(beam_size, jnp.int32), none.at[0].set(0.0), none
    )

    def advance(found: PrefixBeams, frame: tuple[jax.Array, jax.Array]) -> tuple[PrefixBeams, None]:
        logp, there = frame
        after = _extend(found, logp, blank)
        return jax.tree.map(lambda new, old: jnp.where(there, new, old), after, found), None

    found, _ = jax.lax.scan(advance, start, (logp, _there(logits, num_frames)))
    score = jnp.logaddexp(found.blank, found.label)
    order = jnp.argsort(-score)
    return DecodeResult(found.tokens[order], found.length[order], score[order])


def _extend(found: PrefixBeams, logp: jax.Array, blank: int) -> PrefixBeams:
    """By one frame: each prefix as it is, and each by every label; a prefix reached in both ways counts once."""
    beams, steps = found.tokens.shape
    rows, labels = jnp.arange(beams, dtype=jnp.int32), jnp.arange(len(logp), dtype=jnp.int32)
    total = jnp.logaddexp(found.blank, found.label)
    last = jnp.where(found.length > 0, found.tokens[rows, found.length - 1], -1)
    # by[i, v]: the paths of prefix i, now longer by v; a repeated label needs a blank before it
    by = jnp.where(labels[None] == last[:, None], found.blank[:, None], total[:, None]) + logp[None]
    by = by.at[:, blank].set(NEG_INF)
    by = jnp.where((found.length < steps)[:, None], by, NEG_INF)
    # comes[i, j]: prefix i and the last label of prefix j are prefix j
    shorter = found.tokens.at[rows, jnp.maximum(found.length - 1, 0)].set(blank)
    same = (
        jnp.all(found.tokens[:, None] == shorter[None], axis=-1) & (total[:, None] > NEG_INF) & (total[None] > NEG_INF)
    )
    comes = same & (found.length[:, None] + 1 == found.length[None])
    joins = jnp.where(comes, by[:, jnp.maximum(last, 0)], NEG_INF)
    repeated = jnp.where(last >= 0, found.label + logp[jnp.maximum(last, 0)], NEG_INF)
    stays = PrefixBeams(
        found.tokens,
        found.length,
        total + logp[blank],
        jnp.logaddexp(repeated, jax.nn.logsumexp(joins, axis=0)),
    )
    taken = jnp.zeros(by.shape, bool).at[rows[:, None], jnp.maximum(last, 0)[None]].max(comes)
    grows = jnp.where(taken, NEG_INF, by)
    scores = jnp.concatenate([jnp.logaddexp(stays.blank, stays.label), grows.ravel()])
    chosen = jax.lax.top_k(scores, beams)[1]
    parent, label = jnp.divmod(jnp.maximum(chosen - beams, 0), len(logp))
    grown = PrefixBeams(
        found.tokens[parent].at[rows, found.length[parent]].set(label.astype(jnp.int32), mode="drop"),
        found.length[parent] + 1,
        jnp.full(beams, NEG_INF, jnp.float32),
        grows[parent, label],
    )
    held = jax.tree.map(lambda leaf: leaf[jnp.minimum(chosen, beams - 1)], stays)
    is_held = chosen < beams
    return jax.tree.map(lambda old, new: jnp.where(is_held.reshape(-1, *[1] * (old.ndim - 1)), old, new), held, grown)
