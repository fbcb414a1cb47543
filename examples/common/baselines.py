"""Classifiers by scikit-learn that serve as baselines; each treats a whole sequence as one vector of features."""

import numpy as np

MAX_REGRESSION_ROWS = 10_000
"""Training sequences that the logistic regression is fitted to, at most."""
MAX_REGRESSION_ITERATIONS = 200


def nearest_neighbor_accuracy(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray
) -> float:
    """Returns the test accuracy of the nearest training sequence's label, by Euclidean distance over all steps.

    Args:
        train_x: training sequences, ``[N, T, D]``.
        train_y: their classes, ``[N]``.
        test_x: test sequences, ``[M, T, D]``.
        test_y: their classes, ``[M]``.
    """
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(n_neighbors=1).fit(_flatten(train_x), train_y)
    return float(model.score(_flatten(test_x), test_y))


def logistic_regression_accuracy(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray
) -> float:
    """Returns the test accuracy of a logistic regression on the features of all steps.

    It is fitted to the first MAX_REGRESSION_ROWS training sequences.

    Args:
        train_x: training sequences, ``[N, T, D]``.
        train_y: their classes, ``[N]``.
        test_x: test sequences, ``[M, T, D]``.
        test_y: their classes, ``[M]``.
    """
    from sklearn.linear_model import LogisticRegression

    rows = slice(MAX_REGRESSION_ROWS)
    model = LogisticRegression(max_iter=MAX_REGRESSION_ITERATIONS).fit(_flatten(train_x[rows]), train_y[rows])
    return float(model.score(_flatten(test_x), test_y))


def _flatten(x: np.ndarray) -> np.ndarray:
    """Reshapes sequences ``[N, T, D]`` to vectors ``[N, T * D]``."""
    return x.reshape(len(x), -1)
