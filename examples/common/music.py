"""Reads, synthesizes, writes and plots polyphonic music as piano rolls: frames of 88 keys.

Readers end the program with a message that names option, file and line where a file cannot be used.
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
"""MIDI ticks per frame, an eighth note"""


def semitones(text: str) -> int:
    """Parses a number of semitones, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text}, want 0 or more semitones")
    return int(text)


Semitones = Annotated[int, semitones]


class Pieces(NamedTuple):
    """The pieces of each part; a piece is an array ``[T, 88]``, 1 where a key sounds."""

    train: list[np.ndarray]
    valid: list[np.ndarray]
    test: list[np.ndarray]


def read_parts(train: Path | None, valid: Path | None, test: Path | None) -> Pieces:
    """Reads the training, validation and test pieces.

    Args:
        train: a text file of training pieces, or a .mat file of all parts; None makes synthetic cadences.
        valid: a text file of validation pieces; not read with a .mat file.
        test: a text file of test pieces; not read with a .mat file.
    """
    if train is None:
        return Pieces(*(synthetic_cadences(count, seed) for seed, count in enumerate((100, 20, 20))))
    if train.suffix == ".mat":
        return read_matlab(train)
    if valid is None or test is None:
        raise SystemExit("--data: got no --valid or no --test, want a file for each")
    return Pieces(read_pieces("--data", train), read_pieces("--valid", valid), read_pieces("--test", test))


def read_pieces(option: str, path: Path) -> list[np.ndarray]:
    """Reads a text file of pieces, one frame per line and an empty line between pieces.

    Args:
        option: the command-line option that error messages name.
        path: the file; a line has the MIDI numbers of the keys that sound, or "-" for silence.
    Returns:
        The pieces of at least two frames, ``[T, 88]`` each.
    """
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
    """Converts T lists of MIDI numbers to frames ``[T, 88]``."""
    frames = np.zeros((len(chords), NUM_KEYS), np.float32)
    for frame, notes in zip(frames, chords, strict=True):
        frame[[note - LOWEST_NOTE for note in notes]] = 1
    return frames


def to_notes(frames: np.ndarray | jax.Array) -> list[list[int]]:
    """Converts frames ``[T, 88]`` to T lists of MIDI numbers."""
    return [[int(key) + LOWEST_NOTE for key in np.flatnonzero(frame)] for frame in np.asarray(frames)]


def read_matlab(path: Path) -> Pieces:
    """Reads a .mat file with the variables traindata, validdata and testdata."""
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
    """Makes pieces of four-part cadences in random major keys.

    Args:
        count: number of pieces.
        seed: seed of the random numbers.
    Returns:
        Pieces ``[T, 88]``.
    """
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
    """Batches whose pieces are transposed at random, differently at every training step.

    Args:
        batches: batches of pieces, ``[T, B, 88]``.
        max_semitones: the largest transposition up or down; keys beyond the keyboard are dropped.
        seed: seed of the transpositions.
    """

    def __init__(self, batches: training.Bucketed, max_semitones: int, seed: int) -> None:
        self.batches = batches
        self.max_semitones = max_semitones
        self.seed = seed

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
    """Samples frames that continue a prompt, autoregressively; the keys of a frame are sampled independently.

    Args:
        apply_model: ``apply_model(params, frames, states) -> (states, logits)``.
        params: parameters of the model.
        prompt: frames to continue, ``[T, 88]``.
        key: PRNG key.
        temperature: divisor of the logits.
        num_frames: number of frames to sample.
    Returns:
        Sampled frames ``[num_frames, 88]``.
    """
    states, logits = apply_model(params, prompt)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        """Samples one frame and feeds it to the model."""
        states, logits = carry
        frame = jax.random.bernoulli(key, jax.nn.sigmoid(logits / temperature)).astype(prompt.dtype)
        states, logits = apply_model(params, frame[None], states)
        return (states, logits[0]), frame

    return jax.lax.scan(step, (states, logits[-1]), jax.random.split(key, num_frames))[1]


def naive_nats(train: list[np.ndarray], test: list[np.ndarray]) -> dict[str, float]:
    """Returns nats per frame of two models that treat the 88 keys as independent.

    The first uses the frequency of each key, the second its frequency given whether it sounded in the previous frame.

    Args:
        train: pieces ``[T, 88]`` to count.
        test: pieces ``[T, 88]`` to score.
    Returns:
        Mean nats per frame by name of the model.
    """
    current, previous = (np.concatenate([piece[part] for piece in train]) for part in (slice(1, None), slice(-1)))
    target, context = (np.concatenate([piece[part] for piece in test]) for part in (slice(1, None), slice(-1)))

    def nats(probability: np.ndarray) -> float:
        """Returns the cross-entropy of the test frames, summed over keys, averaged over frames."""
        return float(-np.log(np.where(target == 1, probability, 1 - probability)).sum(axis=1).mean())

    frequency = (current.sum(axis=0) + 1) / (len(current) + 2)
    held, struck = (((current * mask).sum(axis=0) + 1) / (mask.sum(axis=0) + 2) for mask in (previous, 1 - previous))
    by_previous = np.where(context == 1, held, struck)
    return {"frequencies": nats(frequency + 0 * target), "each key from its frame before": nats(by_previous)}


def print_nats(nats: dict[str, float]) -> None:
    """Prints the nats per frame of each model."""
    print("\nNats a frame of the test part:")
    for name, value in nats.items():
        print(f"  {name:32} {value:6.2f}")


def save_piece(chords: list[list[int]], prompt_length: int, midi: Path, picture: Path) -> None:
    """Writes a piece as MIDI file and plots it.

    Args:
        chords: MIDI numbers of each frame, prompt included.
        prompt_length: number of frames of the prompt.
        midi: the MIDI file to write.
        picture: the image file to write.
    """
    frames = to_frames(chords)
    save_midi(frames, midi)
    plot_piece(frames, prompt_length, picture)
    print(f"Composed {len(frames) - prompt_length} frames after {prompt_length}: {midi}")


def save_midi(frames: np.ndarray, path: Path) -> None:
    """Writes frames ``[T, 88]`` as a MIDI file of eighth notes; a key that sounds in successive frames is held."""
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
    """Plots frames ``[T, 88]`` as a piano roll, with a line at the end of the prompt."""
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
