"""Decoding for connectionist temporal classification (CTC): from the logits of all frames to sequences of labels.

A path gives each frame a label or the blank. It stands for the labeling that is left when repeated labels are merged
and then blanks removed (Graves et al. 2006): with the blank ``-``, the path ``aa-ab-`` is the labeling ``aab``. The
probability of a labeling is the sum over all its paths. As in ``optax.ctc_loss``, which trains such a model, the blank
is label 0 unless ``blank`` says otherwise.

Each function decodes one sequence; ``jax.vmap`` decodes a batch. Letters: T frames, V labels with the blank, K beams,
L labels of a labeling at most.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax.decoding.tokens import NEG_INF, DecodeResult


@partial(jax.jit, static_argnames="blank")
def ctc_greedy(logits: jax.Array, num_frames: jax.Array | int, *, blank: int = 0) -> DecodeResult:
    """Decodes the labeling of the most probable path, which takes the best label of every frame.

    Args:
        logits: ``[T, V]``.
        num_frames: the number of valid frames, 0 to T; the frames after them are not read.
        blank: the index of the blank label.
    Returns:
        DecodeResult: ``tokens [T]``, padded with the blank; ``length``, the number of labels; ``score``, the log
        probability of the path.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> logits = 9 * jnp.eye(3)[jnp.array([1, 1, 0, 1, 2])]
        >>> labels = lj.decoding.ctc_greedy(logits, 5)
        >>> labels.tokens[: labels.length].tolist()
        [1, 1, 2]
    """
    logp = jax.nn.log_softmax(logits.astype(jnp.float32))
    path, is_valid = jnp.argmax(logits, axis=-1).astype(jnp.int32), _valid_frames(logits, num_frames)
    previous = jnp.concatenate([jnp.full(1, blank, path.dtype), path[:-1]])
    emit_mask = is_valid & (path != blank) & (path != previous)
    position = jnp.where(emit_mask, jnp.cumsum(emit_mask, dtype=jnp.int32) - 1, len(path))
    tokens = jnp.full(len(path), blank, jnp.int32).at[position].set(path, mode="drop")
    score = jnp.sum(jnp.max(logp, axis=-1), where=is_valid)
    return DecodeResult(tokens, jnp.sum(emit_mask, dtype=jnp.int32), score)


def _valid_frames(logits: jax.Array, num_frames: jax.Array | int) -> jax.Array:
    """Bool ``[T]``: whether a frame comes before the end."""
    return jnp.arange(len(logits), dtype=jnp.int32) < jnp.asarray(num_frames, jnp.int32)


class PrefixBeams(NamedTuple):
    """K different labelings of the frames read so far, each with the log probability of its paths."""

    tokens: jax.Array
    """``[K, L]``, padded with the blank"""
    length: jax.Array
    """``[K]``, labels of each labeling"""
    blank_log_prob: jax.Array
    """``[K]``, of all its paths that end in the blank"""
    label_log_prob: jax.Array
    """``[K]``, of all its paths that end in its last label"""

    def log_prob(self) -> jax.Array:
        """``[K]``, of all paths of each labeling."""
        return jnp.logaddexp(self.blank_log_prob, self.label_log_prob)


@partial(jax.jit, static_argnames=("beam_size", "max_labels", "blank"))
def ctc_beam_search(
    logits: jax.Array, num_frames: jax.Array | int, *, beam_size: int, max_labels: int | None = None, blank: int = 0
) -> DecodeResult:
    """Searches for the most probable labelings with a beam of prefixes (Graves 2012; Hannun et al. 2014).

    The score of a labeling is the log of the sum over all its paths that the beam kept; with enough beams it is the
    log probability of the labeling.

    Args:
        logits: ``[T, V]``.
        num_frames: the number of valid frames, 0 to T; the frames after them are not read.
        beam_size: K, the number of prefixes that are kept after each frame, at least 1.
        max_labels: L, the most labels that a labeling may have; None means T.
        blank: the index of the blank label.
    Returns:
        DecodeResult: ``tokens [K, L]``, padded with the blank, ``length [K]`` and ``score [K]``, the best first; the
        score is -inf where fewer than K labelings are possible.
    Raises:
        ValueError: ``beam_size`` is below 1.

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
    empty_prefix = PrefixBeams(
        tokens=jnp.full((beam_size, max_labels), blank, jnp.int32),
        length=jnp.zeros(beam_size, jnp.int32),
        blank_log_prob=impossible.at[0].set(0.0),
        label_log_prob=impossible,
    )

    def advance(beams: PrefixBeams, frame: tuple[jax.Array, jax.Array]) -> tuple[PrefixBeams, None]:
        frame_logp, is_valid = frame
        advanced = _read_frame(beams, frame_logp, blank)
        return jax.tree.map(lambda new, old: jnp.where(is_valid, new, old), advanced, beams), None

    beams, _ = jax.lax.scan(advance, empty_prefix, (logp, _valid_frames(logits, num_frames)))
    score = beams.log_prob()
    order = jnp.argsort(-score)
    return DecodeResult(beams.tokens[order], beams.length[order], score[order])


def _read_frame(beams: PrefixBeams, logp: jax.Array, blank: int) -> PrefixBeams:
    """Reads one frame ``logp [V]`` and keeps the K best of the unchanged and the extended prefixes."""
    beam_size = len(beams.length)
    unchanged, extended = _candidates(beams, logp, blank)
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


def _candidates(beams: PrefixBeams, logp: jax.Array, blank: int) -> tuple[PrefixBeams, jax.Array]:
    """(unchanged, extended ``[K, V]``): every prefix as it is, and the log probability of each longer by each label.

    A prefix as it is gains the paths that repeat its last label or end in the blank. Where prefix i longer by a label
    is prefix j of the beam, its paths are merged into those of j and ``extended`` has -inf.
    """
    beam_size, max_labels = beams.tokens.shape
    rows, labels = jnp.arange(beam_size, dtype=jnp.int32), jnp.arange(len(logp), dtype=jnp.int32)
    log_prob = beams.log_prob()
    last_label = jnp.where(beams.length > 0, beams.tokens[rows, beams.length - 1], -1)
    last_index = jnp.maximum(last_label, 0)

    # A label that repeats the last one needs a blank before it.
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
