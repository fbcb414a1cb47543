"""Splits spoken clips into parts, joins them into strings, batches, masks and draws them."""

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
"""the labels of CTC; the first is the blank"""
MAX_JOINED_CLIPS = 4
MAX_MASK_WIDTH = 10
"""mel bins, or frames"""
PARTS = {"10 or more": (10, math.inf), "5 to 9": (5, 10), "below 5": (0, 5)}
"""numbers of the clips of training, validation and test part, as in the Free Spoken Digit Dataset's README"""


class Utterances(NamedTuple):
    """Scaled frames ``[T, NUM_MELS]`` of clips, and what is said in each."""

    frames: list[np.ndarray]
    labels: list[str]


class Corpus(NamedTuple):
    """The three parts, and the scaler of the training part."""

    train: Utterances
    valid: Utterances
    test: Utterances
    scaler: training.Scaler

    def words(self) -> list[str]:
        """Returns the words of the training part; those of the others must be among them."""
        words = sorted(set(self.train.labels))
        if unknown := sorted({*self.valid.labels, *self.test.labels} - set(words)):
            raise SystemExit(f"--data: got labels {unknown} that no training clip has")
        return words


def read_corpus(path: Path | None, num_strings: int | None = None) -> Corpus:
    """Reads clips, or makes telephone tones without a path.

    Args:
        path: a folder or .tar.gz file of clips.
        num_strings: None for the clips themselves; else so many strings of them for training, and a tenth of that for
            each other part.
    Returns:
        The corpus.
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
    """Joins one to four random clips of a speaker at a time; the label is the digits' names."""
    rng = np.random.default_rng(seed)
    by_speaker: dict[str, list[sounds.Clip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    speakers = sorted(by_speaker)
    strings = []
    for number in range(count):
        recorded = by_speaker[speakers[rng.integers(len(speakers))]]
        indices = rng.integers(len(recorded), size=rng.integers(1, MAX_JOINED_CLIPS + 1))
        joined = [recorded[index] for index in indices]
        samples = np.concatenate([clip.samples for clip in joined])
        label = " ".join(DIGIT_NAMES[int(clip.label)] for clip in joined)
        strings.append(sounds.Clip(label, joined[0].speaker, number, samples))
    return strings


def make_batches(
    utterances: Utterances, words: list[str], batch_size: int, buckets: int, seed: int = 0
) -> training.Bucketed:
    """Batches utterances by length, with the number of each word or, where words are none, with its letters."""
    if words:
        labels = np.array([words.index(label) for label in utterances.labels], np.int32)
        return training.Bucketed(utterances.frames, labels, batch_size, buckets=buckets, multiple=10, seed=seed)
    letters = [np.array([LETTERS.index(letter) for letter in label], np.int32) for label in utterances.labels]
    columns = (utterances.frames, letters)
    return training.Bucketed(columns, None, batch_size, buckets=buckets, multiple=10, seed=seed)


def pad_frames(frames: np.ndarray, multiple: int = 50) -> tuple[np.ndarray, jax.Array]:
    """Returns frames ``[T, NUM_MELS]`` filled up to a multiple, so that few programs are compiled, and their length."""
    padding = -len(frames) % multiple
    return np.pad(frames, ((0, padding), (0, 0))), jnp.int32(len(frames))


def mask_frames(key: jax.Array, frames: jax.Array) -> jax.Array:
    """Sets a band of mel bins and a stretch of frames of each clip to 0, the mean (Park et al. 2019, SpecAugment)."""
    keys = jax.random.split(key, 4)

    def stripe(keys: jax.Array, size: int) -> jax.Array:
        """Returns a random interval of an axis of this size for each clip, ``[size, B]``."""
        start = jax.random.randint(keys[0], frames.shape[1:2], 0, size)
        width = jax.random.randint(keys[1], frames.shape[1:2], 0, MAX_MASK_WIDTH)
        index = jnp.arange(size)[:, None]
        return (index >= start) & (index < start + width)

    bins = stripe(keys[:2], frames.shape[2]).T[None]
    steps = stripe(keys[2:], frames.shape[0])[..., None]
    return jnp.where(bins | steps, 0, frames)


def ctc_padding(lengths: jax.Array, num_steps: int) -> jax.Array:
    """Returns ``[B, T]``, 1 after each length, as Optax wants it."""
    return 1.0 - lj.lengths_to_mask(lengths, num_steps).T.astype(jnp.float32)


def usual_share(labels: Sequence[str]) -> float:
    """Returns the share of the most frequent label."""
    return max(list(labels).count(label) for label in set(labels)) / len(labels)


def plot_recognition(frames: np.ndarray, title: str, rows: Sequence[str], values: np.ndarray, path: Path) -> None:
    """Draws the frames ``[T, NUM_MELS]`` of a clip above what a model makes of each, ``[rows, T]``."""
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
    """Draws the log-mel frames of clips of samples."""
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
