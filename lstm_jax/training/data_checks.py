"""Checks of labels, lengths and finite values before training; each raises a ValueError."""

import numpy as np

from lstm_jax._core import checks


def check_labels(labels: np.ndarray, num_classes: int) -> None:
    """Checks that labels are integers from 0 to ``num_classes - 1``.

    JAX raises no error for an index out of range, so wrong labels would otherwise go unnoticed.

    Args:
        labels: integer array of any shape.
        num_classes: number of classes.
    Raises:
        ValueError: ``labels`` have no integer dtype, or a label is out of range; the message names the range.
    Example:
        >>> import numpy as np
        >>> from lstm_jax import training
        >>> training.check_labels(np.array([0, 2, 1]), num_classes=3)
    """
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels: got dtype {labels.dtype}, want integers")
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(f"labels: got values from {labels.min()} to {labels.max()}, want 0 to {num_classes - 1}")


def check_lengths(lengths: np.ndarray, steps: int) -> None:
    """Checks that sequence lengths are integers from 0 to ``steps``.

    Call it outside ``jit``, where lengths have values; inside ``jit`` lengths are clamped to this range.

    Args:
        lengths: integer array of any shape.
        steps: T, the time steps of the padded sequences.
    Raises:
        ValueError: ``lengths`` have no integer dtype, or a length is out of range.
    Example:
        >>> import numpy as np
        >>> from lstm_jax import training
        >>> training.check_lengths(np.array([0, 8]), steps=8)
    """
    checks.check_lengths(np.asarray(lengths), np.shape(lengths), steps)


def check_finite(name: str, array: np.ndarray) -> None:
    """Checks that all values of an array are finite.

    Args:
        name: name of the array in the error message.
        array: numeric array of any shape.
    Raises:
        ValueError: ``array`` holds NaN or infinity; the message names their number and the index of the first.
    Example:
        >>> import numpy as np
        >>> from lstm_jax import training
        >>> training.check_finite("xs", np.ones((3, 2)))
    """
    indices = np.argwhere(~np.isfinite(np.asarray(array)))
    if len(indices):
        first_index = tuple(map(int, indices[0]))
        raise ValueError(f"{name}: got {len(indices)} values that are not finite, the first at {first_index}")
