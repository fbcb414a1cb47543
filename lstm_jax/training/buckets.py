"""Batches of variable-length sequences, bucketed by length to limit padding and the number of shapes."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from lstm_jax._core.structs import PyTree
from lstm_jax.training.batches import count_rows, permutation


class RaggedBatch(NamedTuple):
    """A batch of padded sequences, time first."""

    xs: Any
    """``[T, B, ...]``: the sequences, zero-padded; a tuple of arrays if ``Bucketed`` got a tuple of lists"""
    lengths: Any
    """int32 ``[B]``: valid time steps of each sequence; a tuple of arrays if ``Bucketed`` got a tuple of lists"""
    labels: Any
    """pytree of arrays ``[B, ...]``, or None"""
    row_mask: Any
    """bool ``[B]``: False for repeated rows, which fill the batch and must be excluded from loss and metrics"""


class Bucketed:
    """Batches of sequences of similar length, reshuffled each epoch.

    Sequences are grouped by length into at most ``buckets`` groups of about equal size, and padded to the longest of
    their group. If the last batch of a group is not full, it repeats rows, which ``row_mask`` marks.

    Args:
        sequences: N arrays ``[length, ...]``; or a tuple of lists of N arrays each, such as sources and targets. Pairs
            are grouped by their longer member, and batches then hold tuples.
        labels: pytree of arrays ``[N, ...]``; None means no labels.
        batch_size: B, the rows per batch.
        buckets: maximum number of length groups; more groups mean less padding and more compiled shapes.
        multiple: the padded length of each group is rounded up to a multiple of this.
        seed: seed of the shuffling.
    Raises:
        ValueError: there are no sequences, the lists or ``labels`` differ in length, or ``batch_size``, ``buckets`` or
            ``multiple`` is below 1.
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
        self.num_rows = len(self.columns[0])
        if any(len(column) != self.num_rows for column in self.columns):
            raise ValueError(f"sequences: got lists of {[*map(len, self.columns)]}, want lists of as many")
        if self.labels is not None and count_rows(self.labels) != self.num_rows:
            raise ValueError(f"labels: got {count_rows(self.labels)}, want {self.num_rows}, one for each sequence")
        self.batch_size = batch_size
        self.multiple = multiple
        self.seed = seed
        self.lengths = [np.array([len(sequence) for sequence in column], np.int32) for column in self.columns]
        max_lengths = np.max(self.lengths, axis=0)
        bounds = np.unique(np.quantile(max_lengths, np.arange(1, buckets + 1) / buckets, method="higher"))
        self.groups = np.searchsorted(bounds, max_lengths)
        self.num_groups = len(bounds)
        self.plan = lru_cache(maxsize=2)(self._plan_epoch)

    def __len__(self) -> int:
        return len(self.plan(0))

    def __getitem__(self, step: int) -> RaggedBatch:
        epoch, index = divmod(step, len(self))
        group, distinct_rows = self.plan(epoch)[index]
        rows = np.resize(distinct_rows, self.batch_size)
        xs = [
            _pad_sequences(column, rows, self._round_up(int(lengths[self.groups == group].max())))
            for column, lengths in zip(self.columns, self.lengths, strict=True)
        ]
        row_lengths = [lengths[rows] for lengths in self.lengths]
        labels = jax.tree.map(lambda leaf: leaf[rows], self.labels)
        row_mask = np.arange(self.batch_size) < len(distinct_rows)
        if self.has_several:
            return RaggedBatch(tuple(xs), tuple(row_lengths), labels, row_mask)
        return RaggedBatch(xs[0], row_lengths[0], labels, row_mask)

    def _round_up(self, num_steps: int) -> int:
        return max(1, -(-num_steps // self.multiple)) * self.multiple

    def _plan_epoch(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """Returns (group, rows) of each batch in an epoch; the last batch of a group may have fewer rows."""
        order = permutation(self.num_rows, self.seed, epoch)
        plan = []
        for group in range(self.num_groups):
            rows = order[self.groups[order] == group]
            for start in range(0, len(rows), self.batch_size):
                plan.append((group, rows[start : start + self.batch_size]))
        return [plan[index] for index in permutation(len(plan), self.seed + 1, epoch)]


def _pad_sequences(sequences: Sequence[np.ndarray], rows: np.ndarray, num_steps: int) -> np.ndarray:
    """Returns the sequences of ``rows`` as one zero-padded array ``[num_steps, len(rows), ...]``."""
    example = np.asarray(sequences[rows[0]])
    xs = np.zeros((num_steps, len(rows), *example.shape[1:]), example.dtype)
    for column, row in enumerate(rows):
        xs[: len(sequences[row]), column] = sequences[row]
    return xs
