"""Recognizes actions in motions: sequences of skeletons from a depth camera, or of positions of a hand.

    python examples/recognize_actions.py                                    # synthetic gestures
    python examples/recognize_actions.py --data msraction3d.tar.gz          # 20 joints a frame
    python examples/recognize_actions.py --data movement_libras.data        # a point a frame

A folder or .tar.gz file has text files named aACTION_sPERSON_eNUMBER..., such as a07_s03_e02_skeleton.txt, with the
coordinates of a joint per line; persons with odd numbers are the training part. A .data file has a sequence per line,
comma-separated values and then the class; the first half of each class is the training part. Published on
MSR-Action3D's 20 actions: LSTM-FCN 71.7 %, MLSTM-FCN 75.4 % (Karim et al. 2018). The sets are small: compare several
seeds.

The model that --save keeps, from Python in the folder examples:

    import recognize_actions
    model = recognize_actions.load("runs/actions")
    print(recognize_actions.recognize(model, [[[t, t * t]] for t in range(40)]))
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import results, saved
from common.baselines import nearest_neighbor_accuracy
from common.motion import NUM_FRAMES, Examples, motion_features, read_motions, to_examples
from common.options import Count, Positive, Rate, new_parser, parse
from common.pictures import plot_confusion

from lstm_jax import training
from lstm_jax.models import classifier
from lstm_jax.training import metrics

WEIGHT_DECAY = 1e-2
NOISE_SCALE = 0.05
MAX_MASKED_FRAMES = NUM_FRAMES // 4


class Settings(NamedTuple):
    """Settings of the data, the model and its training; --set NAME=VALUE changes one."""

    joints: Count = 20  # lines per frame in the files of a folder
    coordinates: Count = 2  # values per frame in a .data file
    hidden: Count = 96
    dropout: Rate = 0.5
    learning_rate: Positive = 2e-3
    batch_size: Count = 16
    epochs: Count = 60
    steps: Count | None = None  # in place of epochs


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder, .tar.gz or .data file (default: synthetic gestures)")
    return parse(parser, arguments, __file__, Settings, smoke={"steps": 3, "hidden": 8})


def augment(key: jax.Array, x: jax.Array) -> jax.Array:
    """Adds noise to sequences ``[T, B, F]`` and sets a random range of frames of each to 0."""
    start_key, width_key, noise_key = jax.random.split(key, 3)
    start = jax.random.randint(start_key, x.shape[1:2], 0, NUM_FRAMES)
    width = jax.random.randint(width_key, x.shape[1:2], 0, MAX_MASKED_FRAMES)
    time = jnp.arange(NUM_FRAMES)[:, None]
    masked = ((time >= start) & (time < start + width))[..., None]
    return jnp.where(masked, 0, x + NOISE_SCALE * jax.random.normal(noise_key, x.shape))


def compute_logits(params: Any, x: Any, key: Any = None, rate: float = 0.0) -> jax.Array:
    """Returns class logits ``[N, C]`` of sequences ``[N, NUM_FRAMES, F]``; a key enables augmentation and dropout."""
    xs = jnp.swapaxes(x, 0, 1)
    xs = xs if key is None else augment(jax.random.fold_in(key, 1), xs)
    lengths = jnp.full(xs.shape[1], NUM_FRAMES)
    return classifier.classify(params, xs, lengths, pooling="mean", key=key, dropout_rate=rate).logits


def make_loss(rate: float) -> Any:
    """Makes the cross-entropy of the class, with a dropout rate."""

    @training.stateless
    def loss(params: classifier.ClassifierParams, batch: Examples, key: Any) -> tuple[jax.Array, dict[str, Any]]:
        """Computes the loss of a batch and its metrics."""
        logits, labels = compute_logits(params, batch.x, key, rate), jnp.asarray(batch.y)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return nats.mean(), {"loss": metrics.mean(nats), "accuracy": metrics.accuracy(logits, labels)}

    return loss


def train(data: Examples, sizes: dict[str, Any], options: argparse.Namespace) -> training.FitResult:
    """Trains for all epochs, without a validation part, since the sets are small."""
    keys = jax.random.split(jax.random.key(options.seed))
    batches = training.Shuffled(data, options.batch_size, seed=options.seed)
    return training.fit(
        make_loss(options.dropout),
        classifier.init_classifier(keys[0], **sizes),
        batches,
        training.adam(options.learning_rate, weight_decay=WEIGHT_DECAY),
        steps=options.steps or options.epochs * len(batches),
        key=keys[1],
    )


def load(folder: str | Path) -> saved.Model:
    """Loads a model that --save wrote."""
    return saved.load(folder, "recognize_actions", classifier.init_classifier)


def recognize(model: saved.Model, frames: Any) -> str:
    """Returns the action of frames ``[T, points, coordinates]``."""
    logits = compute_logits(model.params, motion_features(np.asarray(frames, np.float32))[None])
    return str(model.notes["names"][int(logits[0].argmax())])


def main(arguments: list[str] | None = None) -> float:
    """Trains, tests and plots; returns the accuracy on the test part."""
    options = parse_options(arguments)
    motions = read_motions(options.data, options.joints, options.coordinates)
    names = sorted(set(motions[0].labels))
    data, test = (to_examples(part, names) for part in motions)
    print(f"{len(data.y)} training sequences, {len(test.y)} test sequences, {len(names)} classes")
    sizes = {"vocab_size": None, "num_classes": len(names), "embedding_size": data.x.shape[-1]}
    sizes |= {"hidden_size": options.hidden, "num_layers": 2}
    notes = {"sizes": sizes, "names": names}
    with results.Timer() as timer:
        model = load(options.load) if options.load else saved.Model(train(data, sizes, options).params, notes)
    saved.save(options.save, options.example, model)
    confusion = metrics.confusion(compute_logits(model.params, test.x), jnp.asarray(test.y))
    accuracy, naive = float(confusion.value()), nearest_neighbor_accuracy(*data, *test)
    print(f"{accuracy:.1%} of the test sequences right; the nearest training sequence {naive:.1%}")
    plot_confusion(confusion, names, options.picture)
    scores = {"accuracy": accuracy, "macro F1": float(confusion.macro_f1())}
    baselines = {"nearest training sequence": naive}
    results.record(options, params=model.params, seconds=timer.seconds, measured=scores, naive=baselines)
    return accuracy


if __name__ == "__main__":
    main()
