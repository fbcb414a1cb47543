"""Checks of data before training: each failure is a ValueError that names the argument and the place."""

import numpy as np

from lstm_jax._core import checks


def check_labels(labels: np.ndarray, num_classes: int) -> None:
    """Checks that labels are integers from 0 to ``num_classes - 1``; JAX would clamp others and learn nonsense.

    Args:
        labels: of any shape.
        num_classes: how many classes there are.
    Raises:
        ValueError: the dtype is no integer, or a label is outside.
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
    """Checks that lengths are integers from 0 to ``steps``; inside ``jit`` their values are not known, and are clamped.

    Args:
        lengths: of any shape.
        steps: T.
    Raises:
        ValueError: the dtype is no integer, or a length is outside.
    Example:
        >>> import numpy as np
        >>> from lstm_jax import training
        >>> training.check_lengths(np.array([0, 8]), steps=8)
    """
    checks.check_lengths(np.asarray(lengths), np.shape(lengths), steps)


def check_finite(name: str, array: np.ndarray) -> None:
    """Checks that an array holds no NaN and no infinity.

    Args:
        name: what the message calls the array.
        array: of any shape.
    Raises:
        ValueError: how many values are not finite, and where the first one is.
    Example:
        >>> import numpy as np
        >>> from lstm_jax import training
        >>> training.check_finite("xs", np.ones((3, 2)))
    """
    bad = np.argwhere(~np.isfinite(np.asarray(array)))
    if len(bad):
        raise ValueError(f"{name}: got {len(bad)} values that are not finite, the first at {tuple(map(int, bad[0]))}")
