"""Classifies sequences without a network, by scikit-learn."""

import numpy as np

MAX_REGRESSION_ROWS = 10_000


def nearest_neighbor_accuracy(x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> float:
    """Returns the accuracy of the label of the nearest training sequence, compared step by step."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(1).fit(x.reshape(len(x), -1), y)
    return float(model.score(test_x.reshape(len(test_x), -1), test_y))


def logistic_regression_accuracy(x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> float:
    """Returns the accuracy of a logistic regression on all steps at once, fitted to at most 10,000 sequences."""
    from sklearn.linear_model import LogisticRegression

    x, y = x[:MAX_REGRESSION_ROWS], y[:MAX_REGRESSION_ROWS]
    model = LogisticRegression(max_iter=200).fit(x.reshape(len(x), -1), y)
    return float(model.score(test_x.reshape(len(test_x), -1), test_y))
