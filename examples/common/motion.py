"""Reads motions (sequences of skeletons or of hand positions) and computes features of them.

Readers end the program with a message that names option, file and line where a file cannot be used.
"""

import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.sounds import read_files

NUM_FRAMES = 48
"""frames to which every sequence is resampled"""
VELOCITY_SCALE = 10
NOISE_SCALE = 0.15


class Motions(NamedTuple):
    """Sequences of frames with their classes."""

    frames: list[np.ndarray]
    """``[T, points, coordinates]`` per sequence"""
    labels: list[str]
    """class per sequence"""


def read_motions(path: Path | None, joints: int, coordinates: int) -> tuple[Motions, Motions]:
    """Reads the training and test part of a data set of motions.

    Args:
        path: a .data file (see ``read_lines``), or a folder or .tar.gz file (see ``read_folder``); None makes synthetic
            gestures.
        joints: lines per frame in the files of a folder.
        coordinates: values per frame in a .data file.
    Returns:
        (train, test).
    Raises:
        SystemExit: a file has the wrong format, or a class is missing from the training part.
    """
    if path is None:
        return synthetic_gestures(300, 0), synthetic_gestures(200, 1)
    if not path.exists():
        raise SystemExit(f"--data: {path} is neither a file nor a folder")
    train, test = read_lines(path, coordinates) if path.suffix == ".data" else read_folder(path, joints)
    if unknown := sorted(set(test.labels) - set(train.labels)):
        raise SystemExit(f"--data: classes {unknown} are in the test part alone")
    return train, test


def read_folder(path: Path, joints: int) -> tuple[Motions, Motions]:
    """Reads one motion per file aACTION_sPERSON_eNUMBER...txt; odd persons are the training part.

    Args:
        path: a folder or .tar.gz file; each line of a file has the coordinates of a joint.
        joints: lines per frame.
    Returns:
        (train, test).
    """
    train, test = Motions([], []), Motions([], [])
    for name, data in read_files("--data", path, ".txt"):
        if not path.is_dir() and not Path(name).name.startswith("a"):
            continue
        match = re.match(r"a(\d+)_s(\d+)_e\d+", Path(name).name)
        if match is None:
            raise SystemExit(f"--data: {path}: got {name}, want names such as a07_s03_e02_skeleton.txt")
        try:
            points = np.loadtxt(io.BytesIO(data), ndmin=2, dtype=np.float32)
        except ValueError as error:
            raise SystemExit(f"--data: {path}: {name}: want lines of numbers: {error}") from None
        if len(points) == 0 or len(points) % joints or points.shape[1] < 2:
            raise SystemExit(
                f"--data: {path}: {name}: got {points.shape[0]} lines of {points.shape[1]} numbers, want a multiple of "
                f"{joints} joints and at least two coordinates"
            )
        part = train if int(match[2]) % 2 else test
        part.frames.append(points.reshape(-1, joints, points.shape[1])[..., :3])
        part.labels.append(match[1])
    if not train.labels or not test.labels:
        raise SystemExit(
            f"--data: {path}: got {len(train.labels)} and {len(test.labels)} sequences by odd and even persons"
        )
    return train, test


def read_lines(path: Path, coordinates: int) -> tuple[Motions, Motions]:
    """Reads one motion per line; the first half of each class is the training part.

    Args:
        path: a file whose lines have the values of all frames and then the class, separated by commas.
        coordinates: values per frame.
    Returns:
        (train, test).
    """
    motions = Motions([], [])
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        *numbers, label = line.strip().split(",")
        try:
            frames = np.array(numbers, np.float32).reshape(-1, 1, coordinates)
        except ValueError:
            if number == 1:
                continue  # names of columns
            raise SystemExit(
                f"--data: {path}, line {number}: got {line[:40]!r}..., want numbers, a multiple of {coordinates} "
                "coordinates, and a class"
            ) from None
        if len(frames) < 2:
            raise SystemExit(f"--data: {path}, line {number}: got {len(frames)} frames, want at least two")
        motions.frames.append(frames)
        motions.labels.append(label)
    train, test = Motions([], []), Motions([], [])
    for frames, label in zip(*motions, strict=True):
        part = train if 2 * train.labels.count(label) < motions.labels.count(label) - 1 else test
        part.frames.append(frames)
        part.labels.append(label)
    if not train.labels:
        raise SystemExit(f"--data: {path} has no class with two sequences")
    return train, test


def synthetic_gestures(count: int, seed: int) -> Motions:
    """Makes noisy hand paths of five shapes; shape, duration, size and position are random.

    Args:
        count: number of motions.
        seed: seed of the random numbers.
    """
    rng = np.random.default_rng(seed)
    shapes = {
        "circle": lambda t: (np.cos(t), np.sin(t)),
        "other way round": lambda t: (np.cos(t), -np.sin(t)),
        "line": lambda t: (t / 3, 0 * t),
        "zigzag": lambda t: (t / 3, np.sign(np.sin(3 * t))),
        "eight": lambda t: (np.sin(t), np.sin(2 * t)),
    }
    names = list(shapes)
    motions = Motions([], [])
    for _ in range(count):
        name = names[rng.integers(len(names))]
        steps = rng.integers(30, 70)
        points = np.stack(shapes[name](np.linspace(0, 2 * np.pi, steps)), axis=-1)
        size, position = rng.uniform(0.7, 1.3), rng.normal(size=2)
        noise = rng.normal(scale=NOISE_SCALE, size=points.shape)
        motions.frames.append((points * size + position + noise)[:, None].astype(np.float32))
        motions.labels.append(name)
    return motions


def motion_features(frames: np.ndarray) -> np.ndarray:
    """Computes features of a motion, resampled to NUM_FRAMES frames.

    The features are the points relative to the mean of the sequence, in units of its size; where a frame has several
    points, also the points relative to the mean of their frame; and the velocities of the points.

    Args:
        frames: the motion, ``[T, points, coordinates]``.
    Returns:
        Features ``[NUM_FRAMES, F]``.
    """
    time = np.linspace(0, len(frames) - 1, NUM_FRAMES)
    low, high_weight = np.floor(time).astype(int), (time % 1)[:, None, None]
    high = np.minimum(low + 1, len(frames) - 1)
    resampled = (1 - high_weight) * frames[low] + high_weight * frames[high]
    center = resampled.mean(axis=(0, 1))
    size = resampled.std(axis=(0, 1)).max() + 1e-6
    points = (resampled - center) / size
    pose = points - points.mean(axis=1, keepdims=True) if points.shape[1] > 1 else np.zeros((NUM_FRAMES, 0, 0))
    velocity = np.diff(points, axis=0, prepend=points[:1]) * VELOCITY_SCALE
    parts = (part.reshape(NUM_FRAMES, -1) for part in (points, pose, velocity))
    return np.concatenate(list(parts), axis=1).astype(np.float32)


class Examples(NamedTuple):
    """Features and class indices of N motions."""

    x: np.ndarray
    """``[N, NUM_FRAMES, F]``"""
    y: np.ndarray
    """``[N]``"""


def to_examples(motions: Motions, names: list[str]) -> Examples:
    """Computes the features of motions and the index of each motion's class in ``names``."""
    x = np.stack([motion_features(frames) for frames in motions.frames])
    return Examples(x, np.array([names.index(label) for label in motions.labels], np.int32))
