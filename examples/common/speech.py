"""Data of speech recognition: splits clips into parts, joins them into strings, batches, masks and plots them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import lstm_jax as lj
from common import sounds
from lstm_jax import training

DIGIT_NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LETTERS = ["", " ", *sorted(set("".join(DIGIT_NAMES)))]
"""labels of CTC; the first is the blank"""
MAX_JOINED_CLIPS = 4
MAX_MASK_WIDTH = 10
"""mel bands, or frames"""
PARTS = {"10 or more": (10, math.inf), "5 to 9": (5, 10), "below 5": (0, 5)}
"""ranges of clip numbers of training, validation and test part, as in the Free Spoken Digit Dataset's README"""


class Utterances(NamedTuple):
    """Log-mel frames of clips with their transcripts."""

    frames: list[np.ndarray]
    """scaled frames of each clip, ``[T, NUM_MELS]``"""
    labels: list[str]
    """spoken word or words of each clip"""


class Corpus(NamedTuple):
    """The three parts of a set of clips, and the scaler fitted to the training part."""

    train: Utterances
    valid: Utterances
    test: Utterances
    scaler: training.Scaler

    def words(self) -> list[str]:
        """Returns the sorted words of the training part; SystemExit if another part has a word that it lacks."""
        words = sorted(set(self.train.labels))
        if unknown := sorted({*self.valid.labels, *self.test.labels} - set(words)):
            raise SystemExit(f"--data: got labels {unknown} that no training clip has")
        return words


def read_corpus(path: Path | None, num_strings: int | None = None) -> Corpus:
    """Reads clips and computes their scaled log-mel frames.

    Args:
        path: a folder or .tar.gz file of clips; None makes telephone tones.
        num_strings: number of strings of joined clips in the training part, with a tenth of it in each other part; None
            means the clips themselves.
    Returns:
        The corpus.
    Raises:
        SystemExit: a part has no clip, or a label is not a digit where clips are joined.
    """
    clips = sounds.read_clips("--data", path)
    parts = [[clip for clip in clips if low <= clip.number < high] for low, high in PARTS.values()]
    for name, part in zip(PARTS, parts, strict=True):
        if not part:
            raise SystemExit(f"--data: no clip has a number {name}, want some for each part")
    if num_strings is not None:
        if unknown := {clip.label for clip in clips} - {str(digit) for digit in range(10)}:
            raise SystemExit(f"--data: got labels {sorted(unknown)}, want digits for --task letters")
        counts = (num_strings, num_strings // 10, num_strings // 10)
        parts = [join_clips(part, count, seed) for seed, (part, count) in enumerate(zip(parts, counts, strict=True))]
    frames = [[sounds.log_mel(clip.samples) for clip in part] for part in parts]
    scaler = training.fit_scaler(np.concatenate(frames[0]))
    train, valid, test = (
        Utterances([scaler.transform(clip) for clip in part_frames], [clip.label for clip in part])
        for part_frames, part in zip(frames, parts, strict=True)
    )
    return Corpus(train, valid, test, scaler)


def join_clips(clips: list[sounds.Clip], count: int, seed: int) -> list[sounds.Clip]:
    """Makes strings of one to MAX_JOINED_CLIPS random clips of one speaker; the label has the names of the digits.

    Args:
        clips: clips of digits.
        count: number of strings.
        seed: seed of the random numbers.
    """
    rng = np.random.default_rng(seed)
    by_speaker: dict[str, list[sounds.Clip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    speakers = sorted(by_speaker)
    strings = []
    for number in range(count):
        speaker_clips = by_speaker[speakers[rng.integers(len(speakers))]]
        indices = rng.integers(len(speaker_clips), size=rng.integers(1, MAX_JOINED_CLIPS + 1))
        joined = [speaker_clips[index] for index in indices]
        samples = np.concatenate([clip.samples for clip in joined])
        label = " ".join(DIGIT_NAMES[int(clip.label)] for clip in joined)
        strings.append(sounds.Clip(label, joined[0].speaker, number, samples))
    return strings


def make_batches(
    utterances: Utterances, words: list[str], batch_size: int, buckets: int, seed: int = 0
) -> training.Bucketed:
    """Batches utterances by length, with word indices ``[B]`` or letter codes ``[L, B]`` as labels.

    Args:
        utterances: the clips.
        words: the words, by index; an empty list means letters.
        batch_size: clips per batch.
        buckets: number of lengths to which clips are padded.
        seed: seed of the order of the batches.
    """
    if words:
        labels = np.array([words.index(label) for label in utterances.labels], np.int32)
        return training.Bucketed(utterances.frames, labels, batch_size, buckets=buckets, multiple=10, seed=seed)
    letters = [np.array([LETTERS.index(letter) for letter in label], np.int32) for label in utterances.labels]
    columns = (utterances.frames, letters)
    return training.Bucketed(columns, None, batch_size, buckets=buckets, multiple=10, seed=seed)


def pad_frames(frames: np.ndarray, multiple: int = 50) -> tuple[np.ndarray, jax.Array]:
    """Pads frames with zeros to a multiple of steps, so that few programs are compiled.

    Args:
        frames: frames of a clip, ``[T, NUM_MELS]``.
        multiple: the padded number of frames is a multiple of this.
    Returns:
        (padded frames, T).
    """
    padding = -len(frames) % multiple
    return np.pad(frames, ((0, padding), (0, 0))), jnp.int32(len(frames))


def mask_frames(key: jax.Array, frames: jax.Array) -> jax.Array:
    """Masks a random range of mel bands and of frames of each clip (SpecAugment, Park et al. 2019).

    Args:
        key: PRNG key.
        frames: scaled frames, ``[T, B, NUM_MELS]``.
    Returns:
        The frames with masked values set to 0, the mean.
    """
    keys = jax.random.split(key, 4)

    def sample_mask(keys: jax.Array, size: int) -> jax.Array:
        """Samples a random interval of an axis for each clip, as a mask ``[size, B]``."""
        start = jax.random.randint(keys[0], frames.shape[1:2], 0, size)
        width = jax.random.randint(keys[1], frames.shape[1:2], 0, MAX_MASK_WIDTH)
        index = jnp.arange(size)[:, None]
        return (index >= start) & (index < start + width)

    band_mask = sample_mask(keys[:2], frames.shape[2]).T[None]
    step_mask = sample_mask(keys[2:], frames.shape[0])[..., None]
    return jnp.where(band_mask | step_mask, 0, frames)


def ctc_padding(lengths: jax.Array, num_steps: int) -> jax.Array:
    """Returns the paddings ``[B, num_steps]`` of ``optax.ctc_loss``: 1 from each length ``[B]`` on, else 0."""
    return 1.0 - lj.lengths_to_mask(lengths, num_steps).T.astype(jnp.float32)


def usual_share(labels: Sequence[str]) -> float:
    """Returns the share of the most frequent label."""
    return max(list(labels).count(label) for label in set(labels)) / len(labels)


def plot_recognition(frames: np.ndarray, title: str, rows: Sequence[str], values: np.ndarray, path: Path) -> None:
    """Plots the frames of a clip, and below them a model's values for each frame.

    Args:
        frames: frames of the clip, ``[T, NUM_MELS]``.
        title: the title of the plot.
        rows: labels of the R rows of values.
        values: values to plot, ``[R, T']``, spread over the duration of the clip.
        path: the image file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    seconds = len(frames) * sounds.HOP_LENGTH / sounds.SAMPLE_RATE
    extent = (0, seconds, 0, sounds.NUM_MELS)
    above.imshow(frames.T, origin="lower", aspect="auto", cmap="cividis", extent=extent)
    above.set(ylabel="mel band", title=title)
    image = below.imshow(values, aspect="auto", cmap="cividis", vmin=0, extent=(0, seconds, len(rows), 0))
    below.set_yticks(np.arange(len(rows)) + 0.5, rows, fontsize="small")
    below.set(xlabel="seconds", ylabel="letter" if len(rows) > 1 else "")
    figure.colorbar(image, ax=below, label="probability" if len(rows) > 1 else "share of units")
    figure.savefig(path, dpi=110)


def plot_spectrograms(clips: Sequence[np.ndarray], titles: Sequence[str], path: Path) -> None:
    """Plots the log-mel frames of clips.

    Args:
        clips: samples of each clip, ``[N]``.
        titles: a title per clip.
        path: the image file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    grid = figure.subplots(2, -(-len(clips) // 2), squeeze=False, sharey=True)
    for axes, samples, title in zip(grid.ravel(), clips, titles, strict=False):
        frames = sounds.log_mel(samples)
        extent = (0, len(frames) * sounds.HOP_LENGTH / sounds.SAMPLE_RATE, 0, sounds.NUM_MELS)
        axes.imshow(frames.T, origin="lower", aspect="auto", cmap="cividis", extent=extent)
        axes.set_title(title, fontsize="small")
    figure.supxlabel("seconds")
    figure.supylabel("mel band")
    figure.savefig(path, dpi=110)
