"""Reads, makes, writes and draws polyphonic music as frames of the 88 keys of a piano.

A file that cannot be used is explained by option, file and line.
"""

import argparse
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np

from common import texts
from lstm_jax import training

NUM_KEYS = 88
LOWEST_NOTE = 21
"""MIDI number of the first key"""
FRAME_TICKS = 240
"""MIDI ticks of a frame, an eighth note"""


def semitones(text: str) -> int:
    """Reads a distance in semitones, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text}, want 0 or more semitones")
    return int(text)


Semitones = Annotated[int, semitones]


class Pieces(NamedTuple):
    """Pieces ``[T, 88]`` of each part, 1 where a key sounds."""

    train: list[np.ndarray]
    valid: list[np.ndarray]
    test: list[np.ndarray]


def read_parts(train: Path | None, valid: Path | None, test: Path | None) -> Pieces:
    """Reads three text files, or a .mat file of all parts; without files it makes cadences."""
    if train is None:
        return Pieces(*(synthetic_cadences(count, seed) for seed, count in enumerate((100, 20, 20))))
    if train.suffix == ".mat":
        return read_matlab(train)
    if valid is None or test is None:
        raise SystemExit("--data: got no --valid or no --test, want a file for each")
    return Pieces(read_pieces("--data", train), read_pieces("--valid", valid), read_pieces("--test", test))


def read_pieces(option: str, path: Path) -> list[np.ndarray]:
    """Reads lines of MIDI numbers, "-" for silence, with an empty line between pieces."""
    pieces: list[list[list[int]]] = [[]]
    for number, line in enumerate(texts.read_lines(option, path), start=1):
        if not line.strip():
            pieces.append([])
            continue
        try:
            notes = [int(word) for word in line.split() if word != "-"]
        except ValueError:
            notes = [-1]
        if notes and not LOWEST_NOTE <= min(notes) <= max(notes) < LOWEST_NOTE + NUM_KEYS:
            raise SystemExit(f"{option}: {path}, line {number}: got {line!r}, want MIDI numbers from 21 to 108")
        pieces[-1].append(notes)
    pieces = [chords for chords in pieces if len(chords) > 1]
    if not pieces:
        raise SystemExit(f"{option}: {path} has no piece of two frames or more")
    return [to_frames(chords) for chords in pieces]


def to_frames(chords: list[list[int]]) -> np.ndarray:
    """Turns lists of MIDI numbers, one a frame, into frames ``[T, 88]``."""
    frames = np.zeros((len(chords), NUM_KEYS), np.float32)
    for frame, notes in zip(frames, chords, strict=True):
        frame[[note - LOWEST_NOTE for note in notes]] = 1
    return frames


def to_notes(frames: np.ndarray | jax.Array) -> list[list[int]]:
    """Turns frames ``[T, 88]`` into lists of MIDI numbers."""
    return [[int(key) + LOWEST_NOTE for key in np.flatnonzero(frame)] for frame in np.asarray(frames)]


def read_matlab(path: Path) -> Pieces:
    """Reads the three parts of a .mat file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        table = loadmat(path)
        names = "traindata", "validdata", "testdata"
        parts = Pieces(*([piece.astype(np.float32) for piece in table[name][0]] for name in names))
        if {piece.shape[1:] for part in parts for piece in part} != {(NUM_KEYS,)}:
            raise ValueError(f"got no pieces of {NUM_KEYS} keys")
        return parts
    except (OSError, ValueError, KeyError, IndexError, MatReadError) as error:
        raise SystemExit(f"--data: {path}: want a .mat file with traindata, validdata and testdata: {error}") from None


def synthetic_cadences(count: int, seed: int) -> list[np.ndarray]:
    """Makes cadences in all keys: a bass and three voices above it, some of them held."""
    rng = random.Random(seed)
    chords = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (9, 12, 16))
    pieces = []
    for _ in range(count):
        tonic, piece = rng.randrange(12), []
        for _ in range(rng.randrange(4, 9)):
            for chord in (chords[0], rng.choice(chords[1:]), chords[2], chords[0]):
                notes = [36 + tonic + chord[0], *(60 + tonic + interval for interval in chord)]
                piece += [notes] * rng.choice((1, 2, 2))
        pieces.append(to_frames(piece))
    return pieces


class Transposed:
    """Batches whose pieces are moved by at most ``max_semitones`` up or down, drawn anew for each step."""

    def __init__(self, batches: training.Bucketed, max_semitones: int, seed: int) -> None:
        self.batches, self.max_semitones, self.seed = batches, max_semitones, seed

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> training.RaggedBatch:
        batch, limit = self.batches[step], self.max_semitones
        shifts = np.random.default_rng((self.seed, step)).integers(-limit, limit + 1, batch.xs.shape[1])
        source_keys = np.arange(NUM_KEYS) - shifts[:, None]
        is_inside = (source_keys >= 0) & (source_keys < NUM_KEYS)
        indices = np.broadcast_to(source_keys % NUM_KEYS, batch.xs.shape)
        return batch._replace(xs=np.take_along_axis(batch.xs, indices, axis=-1) * is_inside)


@partial(jax.jit, static_argnames=("apply_model", "num_frames"))
def sample_frames(
    apply_model: Callable[..., tuple[Any, jax.Array]],
    params: Any,
    prompt: jax.Array,
    key: jax.Array,
    temperature: jax.Array,
    num_frames: int,
) -> jax.Array:
    """Reads frames ``[T, 88]`` and samples more, each key of a frame by itself, each frame read back.

    Args:
        apply_model: ``apply_model(params, frames, states) -> (states, logits)``.
        params: of the model.
        prompt: frames to begin with.
        key: of the samples.
        temperature: divides the logits.
        num_frames: to sample.
    Returns:
        The sampled frames ``[num_frames, 88]``.
    """
    states, logits = apply_model(params, prompt)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        """Samples one frame and reads it."""
        states, logits = carry
        frame = jax.random.bernoulli(key, jax.nn.sigmoid(logits / temperature)).astype(prompt.dtype)
        states, logits = apply_model(params, frame[None], states)
        return (states, logits[0]), frame

    return jax.lax.scan(step, (states, logits[-1]), jax.random.split(key, num_frames))[1]


def naive_nats(train: list[np.ndarray], test: list[np.ndarray]) -> dict[str, float]:
    """Returns nats a frame of two models that take each key by itself.

    The first knows how often each key sounds, the second also whether it sounded in the frame before.
    """
    current, previous = (np.concatenate([piece[part] for piece in train]) for part in (slice(1, None), slice(-1)))
    target, context = (np.concatenate([piece[part] for piece in test]) for part in (slice(1, None), slice(-1)))

    def nats(probability: np.ndarray) -> float:
        """Returns the mean cross-entropy of the target's frames, summed over keys."""
        return float(-np.log(np.where(target == 1, probability, 1 - probability)).sum(axis=1).mean())

    share = (current.sum(axis=0) + 1) / (len(current) + 2)
    held, struck = (((current * mask).sum(axis=0) + 1) / (mask.sum(axis=0) + 2) for mask in (previous, 1 - previous))
    by_previous = np.where(context == 1, held, struck)
    return {"frequencies": nats(share + 0 * target), "each key from its frame before": nats(by_previous)}


def print_nats(nats: dict[str, float]) -> None:
    """Prints nats a frame by the name of the model."""
    print("\nNats a frame of the test part:")
    for name, value in nats.items():
        print(f"  {name:32} {value:6.2f}")


def save_piece(chords: list[list[int]], prompt_length: int, midi: Path, picture: Path) -> None:
    """Writes a piece and draws it; the first frames are the prompt."""
    frames = to_frames(chords)
    save_midi(frames, midi)
    plot_piece(frames, prompt_length, picture)
    print(f"Composed {len(frames) - prompt_length} frames after {prompt_length}: {midi}")


def save_midi(frames: np.ndarray, path: Path) -> None:
    """Writes frames ``[T, 88]`` as eighth notes; a key that sounds in successive frames is held."""
    import mido

    song, track = mido.MidiFile(), mido.MidiTrack()
    song.tracks.append(track)
    ticks, sounding = 0, np.zeros(NUM_KEYS)
    for frame in [*frames, np.zeros(NUM_KEYS)]:
        for change, message in ((-1, "note_off"), (1, "note_on")):
            for key in np.flatnonzero(frame - sounding == change):
                track.append(mido.Message(message, note=int(key) + LOWEST_NOTE, velocity=64, time=ticks))
                ticks = 0
        sounding, ticks = frame, ticks + FRAME_TICKS
    song.save(path)


def plot_piece(frames: np.ndarray, prompt_length: int, path: Path) -> None:
    """Draws a piano roll of frames ``[T, 88]``, with a line where the composition begins."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots()
    low, high = np.flatnonzero(frames.any(axis=0))[[0, -1]] if frames.any() else (0, NUM_KEYS - 1)
    extent = (0, len(frames), LOWEST_NOTE, LOWEST_NOTE + NUM_KEYS)
    axes.imshow(frames.T, origin="lower", aspect="auto", cmap="Greys", extent=extent)
    axes.axvline(prompt_length, color="tab:red", label="composed from here")
    ylim = (LOWEST_NOTE + low - 2, LOWEST_NOTE + high + 3)
    axes.set(xlabel="frame (eighth notes)", ylabel="MIDI number", ylim=ylim)
    axes.legend(loc="upper right")
    figure.savefig(path, dpi=120)
