"""Batches by number: ``batches[step]`` is the same on every run, so a run that goes on needs no position but its step.

``len(batches)`` is the number of steps in an epoch; steps beyond it go on into the next one, in another order. Any
object with these two serves ``fit``, a ``grain.MapDataset`` among them. A list of batches serves too, and goes round.
"""

from functools import lru_cache
from typing import Protocol

import jax
import numpy as np

from lstm_jax._core.structs import PyTree


class Batches(Protocol):
    """Batches by number."""

    def __getitem__(self, step: int) -> PyTree:
        """Returns the batch of a step, which may lie beyond the first epoch."""

    def __len__(self) -> int:
        """Returns the number of batches in an epoch."""


class Shuffled:
    """Batches of rows from arrays that share their first axis, in a new order each epoch.

    Rows that do not fill a batch wait for another epoch; with ``shuffle=False`` they come as a last, smaller batch.

    Args:
        arrays: a tree of arrays ``[N, ...]``.
        batch_size: rows in a batch, at most N.
        seed: of the orders; the same seed gives the same batches on every run.
        shuffle: whether rows change their order; without it they keep it, as validation wants.
    Raises:
        ValueError: the arrays have no row, or not as many rows each; ``batch_size`` is below 1.
    Example:
        >>> import numpy as np
        >>> from lstm_jax import training
        >>> batches = training.Shuffled({"x": np.arange(10), "label": np.arange(10) % 2}, batch_size=4)
        >>> len(batches), batches[0]["x"].shape
        (2, (4,))
    """

    def __init__(self, arrays: PyTree, batch_size: int, *, seed: int = 0, shuffle: bool = True) -> None:
        self.arrays = jax.tree.map(np.asarray, arrays)
        self.rows = count_rows(self.arrays)
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
    """Returns the order of an epoch, which is not to be written to.

    Args:
        count: N.
        seed: of all epochs.
        epoch: its number.
    Returns:
        order: int ``[N]``, the numbers from 0 to N - 1.
    """
    order = np.random.default_rng((seed, epoch)).permutation(count)
    order.flags.writeable = False
    return order


def batch_at(batches: Batches, step: int) -> PyTree:
    """Returns the batch of a step; a list of batches goes round.

    Args:
        batches: batches by number.
        step: 0 or more, beyond the first epoch too.
    Returns:
        batch: a tree of arrays.
    """
    return batches[step % len(batches)] if isinstance(batches, list | tuple) else batches[step]


def count_rows(arrays: PyTree) -> int:
    """Returns the size of the first axis, which all arrays share.

    Raises:
        ValueError: they do not share it, or it is 0.
    """
    sizes = {np.shape(leaf)[0] if np.ndim(leaf) else -1 for leaf in jax.tree.leaves(arrays)}
    if len(sizes) != 1 or -1 in sizes:
        raise ValueError(f"arrays: got first axes of sizes {sorted(sizes)}, want arrays that share theirs")
    if 0 in sizes:
        raise ValueError("arrays: got no rows, want at least one")
    return sizes.pop()
