"""Ragged sequences in batches of similar length."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from lstm_jax._core.structs import PyTree
from lstm_jax.training.batches import count_rows, permutation


class RaggedBatch(NamedTuple):
    """Sequences of several lengths in one array, time first."""

    xs: Any
    """``[T, B, ...]``, 0 after each length; a tuple of such for a tuple of lists"""
    lengths: Any
    """int ``[B]``; a tuple of such for a tuple of lists"""
    labels: Any
    """``[B, ...]``, or None"""
    row_mask: Any
    """bool ``[B]``: false for rows that only fill up the batch, and should not count"""


class Bucketed:
    """Batches of ragged sequences of similar length, so that little is padding and few shapes are compiled.

    Sequences are grouped by length into ``buckets`` groups of about equal size; the sequences of a batch are padded to
    the longest of their group. A last batch that is not full repeats rows, which ``row_mask`` leaves out.

    Args:
        sequences: N arrays whose first axes are the lengths; or a tuple of lists of N arrays, such as sources and
            targets, which are grouped by the longer one and whose batches hold tuples.
        labels: a tree of arrays ``[N, ...]``; None means there are none.
        batch_size: B.
        buckets: groups of lengths.
        multiple: every batch's time axis is a multiple of this; a larger one makes for fewer shapes.
        seed: of the orders.
    Raises:
        ValueError: there are no sequences, not as many in each list or labels, or a number is below 1.
    Example:
        >>> import numpy as np
        >>> from lstm_jax import training
        >>> sequences = [np.ones((length, 2)) for length in (3, 4, 4, 9, 9)]
        >>> batches = training.Bucketed(sequences, np.arange(5), batch_size=3, buckets=2)
        >>> sorted((batches[k].xs.shape, int(batches[k].row_mask.sum())) for k in range(len(batches)))
        [((4, 3, 2), 3), ((9, 3, 2), 2)]
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
        self.has_several = isinstance(sequences, tuple) and all(isinstance(column, list) for column in sequences)
        self.columns: Sequence[Any] = sequences if self.has_several else (sequences,)
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
        if self.labels is not None and count_rows(self.labels) != self.rows:
            raise ValueError(f"labels: got {count_rows(self.labels)}, want {self.rows}, one for each sequence")
        self.batch_size, self.multiple, self.seed = batch_size, multiple, seed
        self.lengths = [np.array([len(sequence) for sequence in column], np.int32) for column in self.columns]
        longest = np.max(self.lengths, axis=0)
        bounds = np.unique(np.quantile(longest, np.arange(1, buckets + 1) / buckets, method="higher"))
        self.group, self.num_groups = np.searchsorted(bounds, longest), len(bounds)
        self.plan = lru_cache(maxsize=2)(self._plan)

    def __len__(self) -> int:
        return len(self.plan(0))

    def __getitem__(self, step: int) -> RaggedBatch:
        epoch, number = divmod(step, len(self))
        group, chosen = self.plan(epoch)[number]
        rows = np.resize(chosen, self.batch_size)
        xs = [
            _pad(column, rows, self._round_up(int(lengths[self.group == group].max())))
            for column, lengths in zip(self.columns, self.lengths, strict=True)
        ]
        lengths = [column[rows] for column in self.lengths]
        labels = jax.tree.map(lambda leaf: leaf[rows], self.labels)
        row_mask = np.arange(self.batch_size) < len(chosen)
        if self.has_several:
            return RaggedBatch(tuple(xs), tuple(lengths), labels, row_mask)
        return RaggedBatch(xs[0], lengths[0], labels, row_mask)

    def _round_up(self, steps: int) -> int:
        return max(1, -(-steps // self.multiple)) * self.multiple

    def _plan(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """The epoch's batches, each its group and its rows, fewer in the last one of a group."""
        order = permutation(self.rows, self.seed, epoch)
        plan = []
        for group in range(self.num_groups):
            rows = order[self.group[order] == group]
            for start in range(0, len(rows), self.batch_size):
                plan.append((group, rows[start : start + self.batch_size]))
        return [plan[index] for index in permutation(len(plan), self.seed + 1, epoch)]


def _pad(sequences: Sequence[np.ndarray], rows: np.ndarray, steps: int) -> np.ndarray:
    """``[steps, rows, ...]``, 0 after each sequence."""
    first = np.asarray(sequences[rows[0]])
    xs = np.zeros((steps, len(rows), *first.shape[1:]), first.dtype)
    for column, row in enumerate(rows):
        xs[: len(sequences[row]), column] = sequences[row]
    return xs
