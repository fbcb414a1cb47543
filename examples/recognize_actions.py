"""Recognises actions in sequences of points: skeletons from a depth camera, the path of a hand.

    python examples/recognise_actions.py                                           # made-up gestures
    python examples/recognise_actions.py --data msraction3d.tar.gz --rows 20       # 20 joints a frame
    python examples/recognise_actions.py --data movement_libras.data --width 2     # a point a frame

A folder or a .tar.gz file holds text files named aACTION_sPERSON_eNUMBER..., such as a07_s03_e02_skeleton.txt, each
line the numbers of a point, --rows points a frame; persons with odd numbers train, the others test. A .data file has a
line for each sequence, numbers and then the class, commas between, --width numbers a frame; of each class the first
half trains. Published on MSR-Action3D's 20 actions: LSTM-FCN 71.7 %, MLSTM-FCN 75.4 % (Karim et al. 2018). Small sets:
look at several seeds.
"""

import argparse
import io
import re
import tarfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import results, saved

from lstm_jax import training
from lstm_jax.models import classifier
from lstm_jax.training import metrics

EXAMPLE = "recognise_actions"
HIDDEN = 96
BATCH = 16
EPOCHS = 60
LEARNING_RATE = 2e-3
DROPOUT = 0.5
STEPS = 48
"""frames that every sequence is brought to"""


class Moves(NamedTuple):
    """Sequences of frames ``[T, points, coordinates]`` and their classes."""

    frames: list[np.ndarray]
    labels: list[str]


def read_folder(path: Path, rows: int) -> tuple[Moves, Moves]:
    """Training and test part of files aACTION_sPERSON_eNUMBER."""
    train, test = Moves([], []), Moves([], [])
    for name, data in _files(path):
        match = re.match(r"a(\d+)_s(\d+)_e\d+", Path(name).name)
        if match is None:
            raise SystemExit(f"--data: {path}: got {name}, want names such as a07_s03_e02_skeleton.txt")
        try:
            points = np.loadtxt(io.BytesIO(data), ndmin=2, dtype=np.float32)
        except ValueError as error:
            raise SystemExit(f"--data: {path}: {name}: want lines of numbers: {error}") from None
        if len(points) == 0 or len(points) % rows or points.shape[1] < 2:
            raise SystemExit(
                f"--data: {path}: {name}: got {points.shape[0]} lines of {points.shape[1]} numbers, want a multiple of "
                f"--rows {rows} and at least two coordinates"
            )
        part = train if int(match[2]) % 2 else test
        part.frames.append(points.reshape(-1, rows, points.shape[1])[..., :3])
        part.labels.append(match[1])
    if not train.labels or not test.labels:
        raise SystemExit(
            f"--data: {path}: got {len(train.labels)} and {len(test.labels)} sequences by odd and even persons"
        )
    return train, test


def _files(path: Path) -> Any:
    if path.is_dir():
        yield from ((file.name, file.read_bytes()) for file in sorted(path.glob("*.txt")))
        return
    try:
        with tarfile.open(path) as archive:
            for member in sorted(archive.getmembers(), key=lambda member: member.name):
                if member.name.endswith(".txt") and Path(member.name).name.startswith("a"):
                    yield member.name, archive.extractfile(member).read()  # type: ignore[union-attr]
    except (OSError, tarfile.TarError, EOFError) as error:
        raise SystemExit(f"--data: {path} is neither a folder nor a .tar.gz file that can be read: {error}") from None


def read_lines(path: Path, width: int) -> tuple[Moves, Moves]:
    """Training and test part of a file with a sequence a line: of each class the first half, and the rest."""
    found = Moves([], [])
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        *numbers, label = line.strip().split(",")
        try:
            frames = np.array(numbers, np.float32).reshape(-1, 1, width)
        except ValueError:
            if number == 1:
                continue  # names of columns
            raise SystemExit(
                f"--data: {path}, line {number}: got {line[:40]!r}..., want numbers, a multiple of --width {width} of "
                "them, and a class"
            ) from None
        if len(frames) < 2:
            raise SystemExit(f"--data: {path}, line {number}: got {len(frames)} frames, want at least two")
        found.frames.append(frames)
        found.labels.append(label)
    train, test = Moves([], []), Moves([], [])
    for frames, label in zip(*found, strict=True):
        part = train if 2 * train.labels.count(label) < found.labels.count(label) - 1 else test
        part.frames.append(frames)
        part.labels.append(label)
    if not train.labels:
        raise SystemExit(f"--data: {path} has no class with two sequences")
    return train, test


def synthetic(count: int, seed: int) -> Moves:
    """A hand that draws circles, lines, zigzags, eights, at its own pace and place."""
    draw = np.random.default_rng(seed)
    shapes = {
        "circle": lambda t: (np.cos(t), np.sin(t)),
        "other way round": lambda t: (np.cos(t), -np.sin(t)),
        "line": lambda t: (t / 3, 0 * t),
        "zigzag": lambda t: (t / 3, np.sign(np.sin(3 * t))),
        "eight": lambda t: (np.sin(t), np.sin(2 * t)),
    }
    names = list(shapes)
    found = Moves([], [])
    for _ in range(count):
        name = names[draw.integers(len(names))]
        steps = draw.integers(30, 70)
        points = np.stack(shapes[name](np.linspace(0, 2 * np.pi, steps)), axis=-1)
        points = points * draw.uniform(0.7, 1.3) + draw.normal(size=2) + draw.normal(scale=0.15, size=points.shape)
        found.frames.append(points[:, None].astype(np.float32))
        found.labels.append(name)
    return found


def features(frames: np.ndarray) -> np.ndarray:
    """``[STEPS, F]``: points about their middle in units of the whole sequence's size, and how they move."""
    place = np.linspace(0, len(frames) - 1, STEPS)
    low, share = np.floor(place).astype(int), (place % 1)[:, None, None]
    high = np.minimum(low + 1, len(frames) - 1)
    even = (1 - share) * frames[low] + share * frames[high]
    middle = even.mean(axis=(0, 1))
    size = even.std(axis=(0, 1)).max() + 1e-6
    points = (even - middle) / size
    inner = points - points.mean(axis=1, keepdims=True) if points.shape[1] > 1 else np.zeros((STEPS, 0, 0))
    moves = np.diff(points, axis=0, prepend=points[:1]) * 10
    return np.concatenate([one.reshape(STEPS, -1) for one in (points, inner, moves)], axis=1).astype(np.float32)


class Part(NamedTuple):
    """Features ``[N, STEPS, F]`` and numbers of classes ``[N]``."""

    x: np.ndarray
    y: np.ndarray


def read_data(options: argparse.Namespace) -> tuple[Part, Part, list[str]]:
    """Training and test part, and the classes."""
    if options.data is None:
        train, test = synthetic(300, 0), synthetic(200, 1)
    elif not options.data.exists():
        raise SystemExit(f"--data: {options.data} is neither a file nor a folder")
    elif options.data.suffix == ".data":
        train, test = read_lines(options.data, options.width)
    else:
        train, test = read_folder(options.data, options.rows)
    names = sorted(set(train.labels))
    if unknown := sorted(set(test.labels) - set(names)):
        raise SystemExit(f"--data: classes {unknown} are in the test part alone")
    train_part, test_part = (
        Part(
            np.stack([features(one) for one in part.frames]),
            np.array([names.index(one) for one in part.labels], np.int32),
        )
        for part in (train, test)
    )
    return train_part, test_part, names


def shaken(key: jax.Array, x: jax.Array) -> jax.Array:
    """Noise, and a stretch of frames at 0, for each sequence ``[T, B, F]``."""
    first, second, third = jax.random.split(key, 3)
    start = jax.random.randint(first, x.shape[1:2], 0, STEPS)
    width = jax.random.randint(second, x.shape[1:2], 0, STEPS // 4)
    place = jnp.arange(STEPS)[:, None]
    hidden = ((place >= start) & (place < start + width))[..., None]
    return jnp.where(hidden, 0, x + 0.05 * jax.random.normal(third, x.shape))


def make_loss(rate: float) -> Any:
    """Cross-entropy of the class."""

    @training.stateless
    def loss(params: classifier.ClassifierParams, batch: Part, key: Any) -> tuple[jax.Array, dict[str, Any]]:
        xs, labels = jnp.swapaxes(batch.x, 0, 1), jnp.asarray(batch.y)
        xs = xs if key is None else shaken(jax.random.fold_in(key, 1), xs)
        lengths = jnp.full(xs.shape[1], STEPS)
        logits = classifier.classify(params, xs, lengths, pooling="mean", key=key, dropout_rate=rate).logits
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return nats.mean(), {
            "loss": metrics.mean(nats),
            "accuracy": metrics.accuracy(logits, labels),
            "confusion": metrics.confusion(logits, labels),
        }

    return loss


def train(data: Part, names: list[str], options: argparse.Namespace) -> training.FitResult:
    """All epochs; nothing is held out, so that nothing of a small set is lost."""
    keys = jax.random.split(jax.random.key(options.seed))
    batches = training.Shuffled(data, BATCH, seed=options.seed)
    return training.fit(
        make_loss(options.dropout),
        classifier.init_classifier(keys[0], **sizes(data.x.shape[-1], names, options)),
        batches,
        training.adam(LEARNING_RATE, weight_decay=1e-2),
        steps=options.steps or options.epochs * len(batches),
        key=keys[1],
    )


def sizes(count: int, names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``init_classifier``."""
    size = {"vocab_size": None, "num_classes": len(names), "embedding_size": count}
    return {**size, "hidden_size": options.hidden, "num_layers": 2}


def naive_accuracy(data: Part, test: Part) -> float:
    """Of the nearest training sequence, frame by frame, by scikit-learn."""
    from sklearn.neighbors import KNeighborsClassifier

    flat = data.x.reshape(len(data.x), -1)
    return float(KNeighborsClassifier(1).fit(flat, data.y).score(test.x.reshape(len(test.x), -1), test.y))


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder, .tar.gz or .data file (default: made-up gestures)")
    parser.add_argument("--rows", type=results.whole, default=20, help="points a frame, lines of a file (%(default)s)")
    parser.add_argument("--width", type=results.whole, default=2, help="numbers a frame in a .data file (%(default)s)")
    parser.add_argument("--hidden", type=results.whole, default=HIDDEN, help="units each way (%(default)s)")
    parser.add_argument("--dropout", type=results.rate, default=DROPOUT, help="(%(default)s)")
    parser.add_argument("--epochs", type=results.whole, default=EPOCHS, help="(%(default)s)")
    parser.add_argument("--steps", type=results.whole, help="instead of --epochs")
    parser.add_argument("--load", type=Path, help="a folder that --save wrote: test only")
    parser.add_argument("--picture", type=Path, default=Path("recognise_actions.png"), help="(%(default)s)")
    options = results.parse(parser, arguments, __file__)
    if options.smoke:
        options.steps, options.hidden = 3, 8
    return options


def main(arguments: list[str] | None = None) -> float:
    """Trains, tests, draws; returns the accuracy on the test part."""
    options = parse_options(arguments)
    data, test, names = read_data(options)
    print(f"{len(data.y)} sequences to learn from, {len(test.y)} to test on, {len(names)} classes")
    began = time.monotonic()
    if options.load:
        params, _, _ = saved.load(options.load, EXAMPLE, classifier.init_classifier)
    else:
        params = train(data, names, options).params
    seconds = time.monotonic() - began
    if options.save:
        saved.save(options.save, EXAMPLE, params, {"sizes": sizes(data.x.shape[-1], names, options)})
    tests = training.Shuffled(test, len(test.y), shuffle=False)
    found = make_loss(0.0)(params, None, tests[0], None)[1][1]["confusion"]
    accuracy, naive = float(found.value()), naive_accuracy(data, test)
    print(f"{accuracy:.1%} of the test sequences right; the nearest training sequence {naive:.1%}")
    results.draw_confusion(found, names, options.picture)
    results.record(
        options,
        params=params,
        seconds=seconds,
        measured={"accuracy": accuracy, "macro F1": float(found.macro_f1())},
        naive={"nearest training sequence": naive},
    )
    return accuracy


if __name__ == "__main__":
    main()
