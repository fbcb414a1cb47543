"""Random batches of two tasks for long-term memory: the adding problem and copying."""

import math
from typing import Any

import numpy as np

NUM_SYMBOLS = 8
NUM_COPIED = 10
"""symbols to copy"""


class Batches:
    """Base class of a task's batches; a batch depends on the seed and its index alone.

    Args:
        time_lag: steps T over which the task requires memory.
        batch_size: sequences per batch.
        num_batches: number of batches.
        seed: seed of all batches.
    """

    def __init__(self, time_lag: int, batch_size: int, num_batches: int, seed: int) -> None:
        self.time_lag = time_lag
        self.batch_size = batch_size
        self.num_batches = num_batches
        self.seed = seed

    def __len__(self) -> int:
        return self.num_batches


class Adding(Batches):
    """Batches (inputs, sums) of the adding problem: ``[T, B, 2]``, a random number and a mark per step; ``[B]``."""

    input_size, output_size = 2, 1

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self.seed, step))
        numbers = rng.random((self.time_lag, self.batch_size), np.float32)
        marked = np.argsort(rng.random((self.time_lag, self.batch_size)), axis=0)[:2]
        marks = np.zeros_like(numbers)
        np.put_along_axis(marks, marked, 1, axis=0)
        return np.stack([numbers, marks], axis=-1), (numbers * marks).sum(axis=0)


class Copying(Batches):
    """Batches (inputs, targets) of the copying task: one-hot symbols ``[T + 20, B, 10]``; symbols ``[T + 20, B]``."""

    input_size = output_size = NUM_SYMBOLS + 2

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        symbols = np.random.default_rng((self.seed, step)).integers(1, NUM_SYMBOLS + 1, (NUM_COPIED, self.batch_size))
        blanks = np.zeros((self.time_lag - 1, self.batch_size), symbols.dtype)
        cues = np.full((NUM_COPIED + 1, self.batch_size), NUM_SYMBOLS + 1)
        inputs = np.concatenate([symbols, blanks, cues])
        targets = np.concatenate([np.zeros((self.time_lag + NUM_COPIED, self.batch_size), symbols.dtype), symbols])
        return np.eye(NUM_SYMBOLS + 2, dtype=np.float32)[inputs], targets.astype(np.int32)


TASKS: dict[str, Any] = {"adding": Adding, "copy": Copying}


def naive_loss(task: str, time_lag: int) -> float:
    """Returns the loss of a model without memory.

    Args:
        task: "adding", where it predicts 1 (squared error), or "copy", where it predicts all symbols alike (nats per
            step).
        time_lag: the task's T.
    """
    return 1 / 6 if task == "adding" else NUM_COPIED * math.log(NUM_SYMBOLS) / (time_lag + 2 * NUM_COPIED)
