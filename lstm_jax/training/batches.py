"""Batches indexed by step: ``batches[step]`` is the same in every run, so resuming needs only the step.

``len(batches)`` is the number of batches in an epoch; larger indices address later epochs. ``fit`` accepts any object
with ``__getitem__`` and ``__len__``, such as a ``grain.MapDataset``, and cycles through a list of batches.
"""

from functools import lru_cache
from typing import Protocol

import jax
import numpy as np

from lstm_jax._core.structs import PyTree


class Batches(Protocol):
    """A source of batches indexed by step."""

    def __getitem__(self, step: int) -> PyTree:
        """Returns the batch of a step; steps from ``len(self)`` on belong to later epochs."""

    def __len__(self) -> int:
        """Returns the number of batches in an epoch."""


class Shuffled:
    """Batches of rows from arrays that share their first axis, reshuffled each epoch.

    With ``shuffle=True`` an epoch drops the rows that do not fill a batch. With ``shuffle=False`` they form a smaller
    last batch.

    Args:
        arrays: a pytree of arrays ``[N, ...]``.
        batch_size: rows per batch; values above N mean N.
        seed: seed of the shuffling.
        shuffle: whether to shuffle the rows in each epoch; use False for validation.
    Raises:
        ValueError: ``arrays`` have no rows or different first axes, or ``batch_size`` is below 1.
    Example:
        >>> import numpy as np
        >>> from lstm_jax import training
        >>> batches = training.Shuffled({"x": np.arange(10), "label": np.arange(10) % 2}, batch_size=4)
        >>> len(batches), batches[0]["x"].shape
        (2, (4,))
    """

    def __init__(self, arrays: PyTree, batch_size: int, *, seed: int = 0, shuffle: bool = True) -> None:
        self.arrays = jax.tree.map(np.asarray, arrays)
        self.num_rows = count_rows(self.arrays)
        self.batch_size = min(batch_size, self.num_rows)
        self.seed = seed
        self.shuffle = shuffle
        if batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size}, want at least 1")

    def __len__(self) -> int:
        num_full, num_remaining = divmod(self.num_rows, self.batch_size)
        return num_full if self.shuffle else num_full + (num_remaining > 0)

    def __getitem__(self, step: int) -> PyTree:
        epoch, index = divmod(step, len(self))
        order = permutation(self.num_rows, self.seed, epoch) if self.shuffle else np.arange(self.num_rows)
        rows = order[index * self.batch_size : (index + 1) * self.batch_size]
        return jax.tree.map(lambda leaf: leaf[rows], self.arrays)


@lru_cache(maxsize=8)
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the permutation of an epoch as a cached, read-only array.

    Args:
        count: N, the number of rows.
        seed: seed shared by all epochs.
        epoch: index of the epoch.
    Returns:
        order: int ``[N]``, a permutation of 0 to N - 1.
    """
    order = np.random.default_rng((seed, epoch)).permutation(count)
    order.flags.writeable = False
    return order


def batch_at(batches: Batches, step: int) -> PyTree:
    """Returns the batch of a step, cycling through ``batches`` if it is a list or tuple.

    Args:
        batches: batches indexed by step.
        step: index of the step, from 0 on; it may lie beyond the first epoch.
    Returns:
        batch: a pytree of arrays.
    """
    return batches[step % len(batches)] if isinstance(batches, list | tuple) else batches[step]


def count_rows(arrays: PyTree) -> int:
    """Returns the size of the first axis, which all arrays must share.

    Raises:
        ValueError: the first axes differ in size, an array is a scalar, or there are no rows.
    """
    sizes = {np.shape(leaf)[0] if np.ndim(leaf) else -1 for leaf in jax.tree.leaves(arrays)}
    if len(sizes) != 1 or -1 in sizes:
        raise ValueError(f"arrays: got first axes of sizes {sorted(sizes)}, want arrays that share theirs")
    if 0 in sizes:
        raise ValueError("arrays: got no rows, want at least one")
    return sizes.pop()
