"""Tracking: scores of how well hidden units follow a feature of the input, compared with chance.

    score = |2 AUC - 1|            for a binary feature: how well the unit's value separates the two classes
    score = |Spearman's rho|       for a numeric feature: the rank correlation of the unit's value and the feature

A perfect unit scores 1. A unit that ignores the feature scores about 0 on a long sequence of independent steps, but
among many units some score well above 0 by chance, in particular because neighboring steps are correlated. The chance
level is therefore measured by circular shifts of the feature in time. This assumes stationarity: a trend over the
whole sequence in both the unit and the feature counts as tracking. Karpathy, Johnson and Li 2015 (arXiv:1506.02078)
identified such units by eye.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy.stats import rankdata

CHANCE_QUANTILE = 0.95
"""Quantile of the scores under random shifts that defines the chance level."""

MIN_STEPS = 40
"""Minimum length of a sequence for which chance can be measured by shifts."""

MIN_SHIFT_DIVISOR = 20
"""Shifts are at least the sequence length divided by this."""


class TrackingResult(NamedTuple):
    """Result of ``track``: the score of each hidden unit for a feature, and the scores expected by chance."""

    scores: np.ndarray
    """``[H]``: the score of each unit, from 0 to 1"""
    signs: np.ndarray
    """``[H]``: 1 if the unit increases with the feature, -1 if it decreases"""
    ranking: np.ndarray
    """``[H]``: unit indices, sorted by decreasing score"""
    chance_scores: np.ndarray
    """``[num_shifts]``: the best score of any unit under each shift of the feature, sorted"""
    unit_chance_levels: np.ndarray
    """``[H]``: the 95% quantile of each unit's scores under shifts, for a unit selected on other data"""

    @property
    def best_unit(self) -> int:
        """The index of the unit with the best score."""
        return int(self.ranking[0])

    @property
    def chance_level(self) -> float:
        """The 95% quantile of ``chance_scores``, for a unit selected on the same data."""
        return float(np.quantile(self.chance_scores, CHANCE_QUANTILE))


def track(values: ArrayLike, feature: ArrayLike, *, num_shifts: int = 200, seed: int = 0) -> TrackingResult:
    """Scores how well each hidden unit follows a feature of the input, and measures the scores expected by chance.

    Args:
        values: ``[T, H]``, one field of the trace of one sequence, such as ``"c"``.
        feature: ``[T]``, boolean or numeric; a feature with exactly two distinct values is binary.
        num_shifts: number of random circular shifts of the feature, each by at least T / 20 steps.
        seed: seed of the random shifts.
    Returns:
        ``TrackingResult`` with NumPy arrays.
    Raises:
        ValueError: if shapes do not match, T is below 40, a value is not finite, or the feature is constant.

    Example:
        >>> import numpy as np, lstm_jax as lj
        >>> values = np.random.default_rng(0).normal(size=(300, 8))
        >>> result = lj.diagnostics.track(values, values[:, 3] > 0)
        >>> result.best_unit, float(result.scores[3]) > result.chance_level
        (3, True)
    """
    values, feature = np.asarray(values, np.float64), np.asarray(feature, np.float64)
    _check_arguments(values, feature, num_shifts)
    weights = _rank_weights(feature)
    ranks = _centered_ranks(values)
    if len(np.unique(feature)) > 2:
        ranks = ranks / np.maximum(np.linalg.norm(ranks, axis=0), np.finfo(float).tiny)
    signed_scores = weights @ ranks
    min_shift = len(feature) // MIN_SHIFT_DIVISOR
    shifts = np.random.default_rng(seed).integers(min_shift, len(feature) - min_shift, num_shifts)
    shifted_scores = np.stack([np.abs(np.roll(weights, shift) @ ranks) for shift in shifts])
    scores = np.abs(signed_scores)
    return TrackingResult(
        scores,
        np.sign(signed_scores),
        np.argsort(-scores, kind="stable"),
        np.sort(shifted_scores.max(axis=1)),
        np.quantile(shifted_scores, CHANCE_QUANTILE, axis=0),
    )


def _rank_weights(feature: np.ndarray) -> np.ndarray:
    """Returns weights ``[T]`` whose inner product with a unit's ranks is its signed score.

    For a binary feature the weights are 2 / (num_ones * num_zeros) at the ones and 0 elsewhere, which gives 2 AUC - 1.
    """
    distinct = np.unique(feature)
    if len(distinct) == 2:
        is_high = feature == distinct[1]
        return 2 * is_high / (is_high.sum() * (~is_high).sum())
    ranks = _centered_ranks(feature)
    return ranks / np.linalg.norm(ranks)


def _centered_ranks(values: np.ndarray) -> np.ndarray:
    """Returns the ranks of values over time, minus their mean; ties share a rank."""
    return rankdata(values, axis=0) - (len(values) + 1) / 2


def _check_arguments(values: np.ndarray, feature: np.ndarray, num_shifts: int) -> None:
    if values.ndim != 2 or feature.shape != values.shape[:1]:
        raise ValueError(f"feature: got shape {feature.shape} beside values {values.shape}, want [T] beside [T, H]")
    if len(feature) < MIN_STEPS:
        raise ValueError(
            f"feature: got {len(feature)} steps, want at least {MIN_STEPS}: chance is measured by shifting it"
        )
    for name, array in (("values", values), ("feature", feature)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: got numbers that are not finite, want finite ones")
    if (feature == feature[0]).all():
        raise ValueError(f"feature: got {feature[0]:g} throughout, want a feature that changes")
    if num_shifts < 1:
        raise ValueError(f"num_shifts: got {num_shifts}, want at least 1")
