"""Batches by number: ``batches[step]`` is the same on every run, so a run that goes on needs no position but its step.

``len(batches)`` is the number of steps in an epoch; steps beyond it go on into the next one, in another order. Any
object with these two will do for ``fit``, a ``grain.MapDataset`` among them.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from lstm_jax._core import checks
from lstm_jax._core.structs import PyTree


class Batches(Protocol):
    """What ``fit`` reads."""

    def __getitem__(self, step: int) -> PyTree: ...
    def __len__(self) -> int: ...


class Shuffled:
    """Rows of arrays that share their first axis, in a new order each epoch.

        Shuffled({"x": x, "label": y}, 32)[step]      a dict of arrays, 32 rows each

    Rows that do not fill a batch wait for another epoch; with ``shuffle=False`` they come as a last, smaller batch.
    """

    def __init__(self, arrays: PyTree, batch_size: int, *, seed: int = 0, shuffle: bool = True) -> None:
        self.arrays = jax.tree.map(np.asarray, arrays)
        self.rows = _rows(self.arrays)
        self.batch_size, self.seed, self.shuffle = min(batch_size, self.rows), seed, shuffle
        if batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size}, want at least 1")

    def __len__(self) -> int:
        full, rest = divmod(self.rows, self.batch_size)
        return full if self.shuffle else full + (rest > 0)

    def __getitem__(self, step: int) -> PyTree:
        epoch, number = divmod(step, len(self))
        order = permutation(self.rows, self.seed, epoch) if self.shuffle else np.arange(self.rows)
        chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
        return jax.tree.map(lambda leaf: leaf[chosen], self.arrays)


@lru_cache(maxsize=8)
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch; not to be written to."""
    order = np.random.default_rng((seed, epoch)).permutation(count)
    order.flags.writeable = False
    return order


class TextWindow(NamedTuple):
    """A window of parallel streams, time first; what a language model reads and what it predicts."""

    inputs: Any
    """``[T, B]``"""
    targets: Any
    """``[T, B]``, the input one step on"""
    resets: Any
    """bool ``[T, B]``: true where an epoch begins"""
    taken: Any
    """bool ``[T, B]``: false behind a window shorter than T"""


class Stream:
    """One long text in reading order, as ``batch_size`` streams cut into windows, for truncated back-propagation.

    A window starts where the one before it ended, so that a carried state reads on; each code is predicted once.

    Args:
        jitter: with a seed, windows of random length as AWD-LSTM has them (Merity et al. 2018): around ``window``, with
            this standard deviation, and in 5 % of the cases around half of it; filled up to a common length and marked
            in ``taken``. 0 means that all are equal.
    """

    def __init__(self, codes: np.ndarray, batch_size: int, window: int, *, jitter: float = 0.0, seed: int = 0) -> None:
        if np.ndim(codes) != 1 or not np.issubdtype(np.asarray(codes).dtype, np.integer):
            raise ValueError(f"codes: got {np.asarray(codes).dtype}{list(np.shape(codes))}, want integers [N]")
        length = (len(codes) - 1) // batch_size
        if length < window:
            raise ValueError(
                f"codes: got {len(codes)}, want at least batch_size * window + 1 = {batch_size * window + 1}"
            )
        cut = [codes[k * length : (k + 1) * length + 1] for k in range(batch_size)]
        self.streams = np.stack(cut, axis=1)
        self.length, self.window, self.jitter, self.seed = length, window, jitter, seed
        self.longest = window if jitter == 0 else int(window + 4 * jitter)
        self.count = len(self._starts(0)) - 1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> TextWindow:
        epoch, number = divmod(step, self.count)
        start, end = self._starts(epoch)[number : number + 2]
        piece = self.streams[start : end + 1]
        piece = np.pad(piece, ((0, self.longest + 1 - len(piece)), (0, 0)))
        place = np.arange(self.longest)[:, None] + np.zeros_like(piece[:1])
        return TextWindow(piece[:-1], piece[1:], (place == 0) & (number == 0), place < end - start)

    def _starts(self, epoch: int) -> np.ndarray:
        """Where windows begin, and the last one ends; of every epoch as many, so that a step has one epoch."""
        if self.jitter == 0:
            return np.arange(0, self.length + 1, self.window)
        rng = np.random.default_rng((self.seed, epoch))
        count = self.length // self.window
        base = np.where(rng.random(count) < 0.95, self.window, self.window / 2)
        least = min(5, self.window)
        sizes = np.clip(rng.normal(base, self.jitter).astype(int), least, self.longest)
        latest = self.length - least * np.arange(count, -1, -1)
        return np.minimum(np.concatenate([[0], np.cumsum(sizes)]), latest)


class RaggedBatch(NamedTuple):
    """Sequences of several lengths in one array, time first; ``real`` is false for rows that only fill up the batch."""

    xs: Any
    """``[T, B, ...]``, 0 behind each length; a tuple of such for a tuple of lists"""
    lengths: Any
    """``[B]``, likewise"""
    labels: Any
    """``[B, ...]``"""
    real: Any
    """bool ``[B]``: false for rows that only fill up the batch, and should not count"""


class Bucketed:
    """RaggedBatch sequences in batches of similar length, so that little is padding and few shapes are compiled.

    Lengths are cut into ``buckets`` groups of about as many sequences; a batch is filled up to its group's longest.

    Args:
        sequences: N arrays, their first axes the lengths; or a tuple of lists of N arrays, such as sources and targets,
            grouped by the longer one, whose batches hold tuples alike.
        labels: a tree of arrays ``[N, ...]``; None means there are none.
        multiple: of which every batch's time axis is one; a larger one makes for fewer shapes.
    """

    def __init__(
        self,
        sequences: Sequence[np.ndarray] | tuple[list[np.ndarray], ...],
        labels: PyTree = None,
        batch_size: int = 32,
        *,
        buckets: int = 4,
        multiple: int = 1,
        seed: int = 0,
    ) -> None:
        self.several = isinstance(sequences, tuple) and all(isinstance(column, list) for column in sequences)
        self.columns: Sequence[Any] = sequences if self.several else (sequences,)
        if min(batch_size, buckets, multiple) < 1:
            raise ValueError(
                f"batch_size, buckets, multiple: got {batch_size}, {buckets}, {multiple}, want at least 1 of each"
            )
        if not self.columns or any(len(column) == 0 for column in self.columns):
            raise ValueError("sequences: got none, want at least one")
        self.labels = jax.tree.map(np.asarray, np.asarray(labels) if isinstance(labels, list) else labels)
        self.rows = len(self.columns[0])
        if any(len(column) != self.rows for column in self.columns):
            raise ValueError(f"sequences: got lists of {[*map(len, self.columns)]}, want lists of as many")
        if self.labels is not None and _rows(self.labels) != self.rows:
            raise ValueError(f"labels: got {_rows(self.labels)}, want {self.rows}, one for each sequence")
        self.batch_size, self.multiple, self.seed = batch_size, multiple, seed
        self.lengths = [np.array([len(one) for one in column], np.int32) for column in self.columns]
        longest = np.max(self.lengths, axis=0)
        bounds = np.unique(np.quantile(longest, np.arange(1, buckets + 1) / buckets, method="higher"))
        self.group, self.groups = np.searchsorted(bounds, longest), len(bounds)
        self.plan = lru_cache(maxsize=2)(self._plan)

    def __len__(self) -> int:
        return len(self.plan(0))

    def __getitem__(self, step: int) -> RaggedBatch:
        epoch, number = divmod(step, len(self))
        group, some = self.plan(epoch)[number]
        rows = np.resize(some, self.batch_size)
        xs = [
            _fill_up(column, rows, self._rounded(int(lengths[self.group == group].max())))
            for column, lengths in zip(self.columns, self.lengths, strict=True)
        ]
        lengths = [column[rows] for column in self.lengths]
        labels = jax.tree.map(lambda leaf: leaf[rows], self.labels)
        real = np.arange(self.batch_size) < len(some)
        if self.several:
            return RaggedBatch(tuple(xs), tuple(lengths), labels, real)
        return RaggedBatch(xs[0], lengths[0], labels, real)

    def _rounded(self, steps: int) -> int:
        return max(1, -(-steps // self.multiple)) * self.multiple

    def _plan(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """The epoch's batches, each its bucket and its rows, fewer in the last one of a bucket."""
        order = permutation(self.rows, self.seed, epoch)
        plan = []
        for group in range(self.groups):
            rows = order[self.group[order] == group]
            for start in range(0, len(rows), self.batch_size):
                plan.append((group, rows[start : start + self.batch_size]))
        return [plan[place] for place in permutation(len(plan), self.seed + 1, epoch)]


def _fill_up(sequences: Sequence[np.ndarray], rows: np.ndarray, steps: int) -> np.ndarray:
    """``[steps, rows, ...]``, 0 behind each sequence."""
    first = np.asarray(sequences[rows[0]])
    xs = np.zeros((steps, len(rows), *first.shape[1:]), first.dtype)
    for column, row in enumerate(rows):
        xs[: len(sequences[row]), column] = sequences[row]
    return xs


class Scaler(NamedTuple):
    """A series' mean and deviation, of its training part alone."""

    mean: np.ndarray
    deviation: np.ndarray

    def transform(self, series: np.ndarray) -> np.ndarray:
        """Mean 0 and deviation 1."""
        return ((series - self.mean) / self.deviation).astype(np.float32)

    def inverse(self, series: Any) -> Any:
        """Back to the series' own unit."""
        return series * self.deviation + self.mean


def fit_scaler(train: np.ndarray) -> Scaler:
    """Of ``train [N, features]``, feature by feature; one that never changes has deviation 1."""
    if not np.isfinite(train).all():
        row = int(np.argwhere(~np.isfinite(np.asarray(train)))[0][0])
        raise ValueError(f"train: got a value that is not finite in row {row}, want gaps filled or cut out")
    deviation = train.std(axis=0)
    return Scaler(train.mean(axis=0), np.where(deviation > 0, deviation, 1.0))


def sliding_windows(series: np.ndarray, history: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Every window of ``series [N, ...]``: the past ``[windows, history, ...]`` and what follows ``[windows, horizon,
    ...]``. Split the series before, not the windows, which overlap."""
    count = len(series) - history - horizon + 1
    if count < 1:
        raise ValueError(f"series: got {len(series)} steps, want at least history + horizon = {history + horizon}")
    views = np.lib.stride_tricks.sliding_window_view(series, history + horizon, axis=0)
    views = np.moveaxis(views, -1, 1)
    return views[:, :history], views[:, history:]


def prefetch(
    batches: Batches, start: int, stop: int, put: Callable[[PyTree], PyTree] = jax.device_put, ahead: int = 2
) -> Iterator[PyTree]:
    """``put(batches[step])`` for the steps from start to stop, made in a thread while the device computes."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque = deque()
        for step in range(start, stop):
            waiting.append(pool.submit(lambda step: put(batches[step]), step))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def check_labels(labels: np.ndarray, classes: int) -> None:
    """Labels are integers from 0 to ``classes - 1``; JAX would clamp others and learn nonsense."""
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels: got dtype {labels.dtype}, want integers")
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels: got values from {labels.min()} to {labels.max()}, want 0 to {classes - 1}")


def check_lengths(lengths: np.ndarray, steps: int) -> None:
    """Lengths are integers from 0 to ``steps``; inside ``jit``, where values are not known, others are clamped."""
    checks.check_lengths(np.asarray(lengths), np.shape(lengths), steps)


def check_finite(name: str, array: np.ndarray) -> None:
    """No NaN or infinity; names the first place."""
    bad = np.argwhere(~np.isfinite(np.asarray(array)))
    if len(bad):
        raise ValueError(f"{name}: got {len(bad)} values that are not finite, the first at {tuple(map(int, bad[0]))}")


def _rows(arrays: PyTree) -> int:
    sizes = {np.shape(leaf)[0] if np.ndim(leaf) else -1 for leaf in jax.tree.leaves(arrays)}
    if len(sizes) != 1 or -1 in sizes:
        raise ValueError(f"arrays: got first axes of sizes {sorted(sizes)}, want arrays that share theirs")
    if 0 in sizes:
        raise ValueError("arrays: got no rows, want at least one")
    return sizes.pop()
