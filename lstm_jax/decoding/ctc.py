"""Decoding for connectionist temporal classification (CTC): greedy search and prefix beam search over frame logits.

A path assigns a label or the blank to each frame. Merging repeated labels and then removing blanks maps a path to a
labeling (Graves et al. 2006): with the blank ``-``, the path ``aa-ab-`` gives the labeling ``aab``. The probability of
a labeling is the sum over all its paths. The blank is label 0 by default, as in ``optax.ctc_loss``.

Each function decodes one sequence; use ``jax.vmap`` for a batch. Letters: T frames, V labels including the blank, K
beams, L maximum labels of a labeling.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax.decoding.tokens import NEG_INF, DecodeResult


@partial(jax.jit, static_argnames="blank")
def ctc_greedy(logits: jax.Array, num_frames: jax.Array | int, *, blank: int = 0) -> DecodeResult:
    """Decodes the labeling of the most probable path, the best label of each frame.

    Args:
        logits: ``[T, V]``, label logits of each frame.
        num_frames: the number of valid frames, 0 to T; later frames are ignored.
        blank: the index of the blank label.
    Returns:
        DecodeResult: the labels ``tokens [T]``, padded with the blank; ``length``, the number of labels; ``score``, the
        log probability of the path.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> logits = 9 * jnp.eye(3)[jnp.array([1, 1, 0, 1, 2])]
        >>> labels = lj.decoding.ctc_greedy(logits, 5)
        >>> labels.tokens[: labels.length].tolist()
        [1, 1, 2]
    """
    logp = jax.nn.log_softmax(logits.astype(jnp.float32))
    path = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    is_valid = _valid_frames(logits, num_frames)
    previous = jnp.concatenate([jnp.full(1, blank, path.dtype), path[:-1]])
    emit_mask = is_valid & (path != blank) & (path != previous)
    position = jnp.where(emit_mask, jnp.cumsum(emit_mask, dtype=jnp.int32) - 1, len(path))
    tokens = jnp.full(len(path), blank, jnp.int32).at[position].set(path, mode="drop")
    score = jnp.sum(jnp.max(logp, axis=-1), where=is_valid)
    return DecodeResult(tokens, jnp.sum(emit_mask, dtype=jnp.int32), score)


def _valid_frames(logits: jax.Array, num_frames: jax.Array | int) -> jax.Array:
    """Returns the mask ``[T]`` that is True for the first ``num_frames`` frames."""
    return jnp.arange(len(logits), dtype=jnp.int32) < jnp.asarray(num_frames, jnp.int32)


class PrefixBeams(NamedTuple):
    """The K labelings (prefixes) that the search keeps, each with the log probability of its paths so far."""

    tokens: jax.Array
    """``[K, L]``, padded with the blank"""
    length: jax.Array
    """``[K]``, the number of labels of each prefix"""
    blank_log_prob: jax.Array
    """``[K]``, log probability of the paths that end in the blank"""
    label_log_prob: jax.Array
    """``[K]``, log probability of the paths that end in the last label"""

    def log_prob(self) -> jax.Array:
        """Returns ``[K]``, the log probability of all paths of each prefix."""
        return jnp.logaddexp(self.blank_log_prob, self.label_log_prob)


@partial(jax.jit, static_argnames=("beam_size", "max_labels", "blank"))
def ctc_beam_search(
    logits: jax.Array, num_frames: jax.Array | int, *, beam_size: int, max_labels: int | None = None, blank: int = 0
) -> DecodeResult:
    """Searches for the most probable labelings by prefix beam search (Graves 2012; Hannun et al. 2014).

    The score of a labeling is the log of the summed probability of its paths within the beam. With enough beams it is
    the log probability of the labeling.

    Args:
        logits: ``[T, V]``, label logits of each frame.
        num_frames: the number of valid frames, 0 to T; later frames are ignored.
        beam_size: K, the number of prefixes to keep after each frame, at least 1.
        max_labels: L, the maximum number of labels of a labeling; None means T.
        blank: the index of the blank label.
    Returns:
        DecodeResult: the labels ``tokens [K, L]``, padded with the blank, ``length [K]`` and ``score [K]``, sorted by
        score, best first; the score is -inf where fewer than K labelings exist.
    Raises:
        ValueError: if ``beam_size`` is below 1.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> logits = jnp.log(jnp.array([[0.55, 0.45], [0.55, 0.45]]))
        >>> best = lj.decoding.ctc_beam_search(logits, 2, beam_size=2)
        >>> best.tokens[0, : best.length[0]].tolist(), round(float(jnp.exp(best.score[0])), 4)
        ([1], 0.6975)
    """
    if beam_size < 1:
        raise ValueError(f"beam_size: got {beam_size}, want at least 1")
    max_labels = len(logits) if max_labels is None else max_labels
    logp = jax.nn.log_softmax(logits.astype(jnp.float32))
    impossible = jnp.full(beam_size, NEG_INF, jnp.float32)
    initial_beams = PrefixBeams(
        tokens=jnp.full((beam_size, max_labels), blank, jnp.int32),
        length=jnp.zeros(beam_size, jnp.int32),
        blank_log_prob=impossible.at[0].set(0.0),
        label_log_prob=impossible,
    )

    def advance(beams: PrefixBeams, frame: tuple[jax.Array, jax.Array]) -> tuple[PrefixBeams, None]:
        frame_logp, is_valid = frame
        advanced = _extend_prefixes(beams, frame_logp, blank)
        return jax.tree.map(lambda new, old: jnp.where(is_valid, new, old), advanced, beams), None

    beams, _ = jax.lax.scan(advance, initial_beams, (logp, _valid_frames(logits, num_frames)))
    score = beams.log_prob()
    order = jnp.argsort(-score)
    return DecodeResult(beams.tokens[order], beams.length[order], score[order])


def _extend_prefixes(beams: PrefixBeams, logp: jax.Array, blank: int) -> PrefixBeams:
    """Adds one frame ``logp [V]`` and keeps the K best of the unchanged and the extended prefixes."""
    beam_size = len(beams.length)
    unchanged, extended = _score_candidates(beams, logp, blank)
    chosen = jax.lax.top_k(jnp.concatenate([unchanged.log_prob(), extended.ravel()]), beam_size)[1]
    is_unchanged = chosen < beam_size
    parent, label = jnp.divmod(jnp.maximum(chosen - beam_size, 0), len(logp))
    rows = jnp.arange(beam_size, dtype=jnp.int32)
    chosen_extended = PrefixBeams(
        tokens=beams.tokens[parent].at[rows, beams.length[parent]].set(label.astype(jnp.int32), mode="drop"),
        length=beams.length[parent] + 1,
        blank_log_prob=jnp.full(beam_size, NEG_INF, jnp.float32),
        label_log_prob=extended[parent, label],
    )
    chosen_unchanged = jax.tree.map(lambda leaf: leaf[jnp.minimum(chosen, beam_size - 1)], unchanged)

    def select(if_unchanged: jax.Array, if_extended: jax.Array) -> jax.Array:
        return jnp.where(is_unchanged.reshape(-1, *[1] * (if_unchanged.ndim - 1)), if_unchanged, if_extended)

    return jax.tree.map(select, chosen_unchanged, chosen_extended)


def _score_candidates(beams: PrefixBeams, logp: jax.Array, blank: int) -> tuple[PrefixBeams, jax.Array]:
    """Returns the prefixes unchanged after one frame, and the log probability ``[K, V]`` of each extended by a label.

    An unchanged prefix gains the paths that repeat its last label or end in the blank. If prefix i extended by a label
    equals prefix j of the beam, its paths are merged into prefix j, and its entry of ``extended`` is -inf.
    """
    beam_size, max_labels = beams.tokens.shape
    rows = jnp.arange(beam_size, dtype=jnp.int32)
    labels = jnp.arange(len(logp), dtype=jnp.int32)
    log_prob = beams.log_prob()
    last_label = jnp.where(beams.length > 0, beams.tokens[rows, beams.length - 1], -1)
    last_index = jnp.maximum(last_label, 0)

    # Extending by the last label again requires a blank in between.
    is_repeated = labels[None] == last_label[:, None]
    extended = jnp.where(is_repeated, beams.blank_log_prob[:, None], log_prob[:, None]) + logp[None]
    extended = extended.at[:, blank].set(NEG_INF)
    extended = jnp.where((beams.length < max_labels)[:, None], extended, NEG_INF)

    # is_parent[i, j]: prefix j without its last label is prefix i.
    without_last = beams.tokens.at[rows, jnp.maximum(beams.length - 1, 0)].set(blank)
    is_possible = log_prob > NEG_INF
    is_parent = (
        jnp.all(beams.tokens[:, None] == without_last[None], axis=-1)
        & (beams.length[:, None] + 1 == beams.length[None])
        & (is_possible[:, None] & is_possible[None])
    )
    merged = jnp.where(is_parent, extended[:, last_index], NEG_INF)
    is_merged = jnp.zeros(extended.shape, bool).at[rows[:, None], last_index[None]].max(is_parent)

    repeated = jnp.where(last_label >= 0, beams.label_log_prob + logp[last_index], NEG_INF)
    unchanged = beams._replace(
        blank_log_prob=log_prob + logp[blank],
        label_log_prob=jnp.logaddexp(repeated, jax.nn.logsumexp(merged, axis=0)),
    )
    return unchanged, jnp.where(is_merged, NEG_INF, extended)
