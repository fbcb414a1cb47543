"""Tracking: which hidden units follow a feature of the input, with a score that is compared with chance.

    score = |2 AUC - 1|            for a binary feature: how well the value of the unit separates its two values
    score = |Spearman's rho|       for a numeric feature: how well the order of the unit's values follows the feature's

A perfect unit scores 1, and a long sequence of independent steps scores about 0 for a unit that ignores the feature.
Among many units, however, some score well above 0 by chance, the more so since neighboring steps are alike; so chance
is measured by shifting the feature around in time. This presumes that unit and feature behave alike throughout: a trend
over the whole sequence, in both, passes for tracking. Karpathy, Johnson and Li 2015 (arXiv:1506.02078) found such units
by eye.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy.stats import rankdata

CHANCE_QUANTILE = 0.95
"""A chance level is reached in one of twenty shifts of the feature."""

MIN_STEPS = 40
"""The shortest sequence whose shifts measure chance."""

MIN_SHIFT_FRACTION = 20
"""A shift is at least the length of the sequence divided by this."""


class TrackingResult(NamedTuple):
    """Result of ``track``: how well each hidden unit follows a feature, and how well it would by chance."""

    scores: np.ndarray
    """``[H]``, 0 to 1"""
    signs: np.ndarray
    """``[H]``: 1 if the unit is high where the feature is, -1 if it is low there"""
    ranking: np.ndarray
    """``[H]``: the numbers of the units, the best score first"""
    chance_scores: np.ndarray
    """``[num_shifts]``: for each shift of the feature the best score of any unit, sorted"""
    unit_chance_levels: np.ndarray
    """``[H]``: the score that each unit reaches in one of twenty shifts, for a unit that was chosen on other data"""

    @property
    def best_unit(self) -> int:
        """The number of the unit with the best score."""
        return int(self.ranking[0])

    @property
    def chance_level(self) -> float:
        """The score that the best unit reaches in one of twenty shifts, for a unit that was chosen on these data."""
        return float(np.quantile(self.chance_scores, CHANCE_QUANTILE))


def track(values: ArrayLike, feature: ArrayLike, *, num_shifts: int = 200, seed: int = 0) -> TrackingResult:
    """Scores hidden units by how well they follow a feature of the input, and measures what scores chance gives.

    Args:
        values: ``[T, H]``: one array of a trace of one sequence, such as its ``"c"``.
        feature: ``[T]``, booleans or numbers; a feature with two different values is binary.
        num_shifts: how often the feature is shifted around the sequence, by at least a twentieth of it, for chance.
        seed: the seed of the random lengths of the shifts.
    Returns:
        ``TrackingResult``, NumPy arrays on the host.
    Raises:
        ValueError: for shapes that do not fit, numbers that are not finite, or a feature that never changes.

    Example:
        >>> import numpy as np, lstm_jax as lj
        >>> values = np.random.default_rng(0).normal(size=(300, 8))
        >>> result = lj.diagnostics.track(values, values[:, 3] > 0)
        >>> result.best_unit, float(result.scores[3]) > result.chance_level
        (3, True)
    """
    values, feature = np.asarray(values, np.float64), np.asarray(feature, np.float64)
    _check(values, feature, num_shifts)
    weights, ranks = _rank_weights(feature), _centered_ranks(values)
    if len(np.unique(feature)) > 2:
        ranks = ranks / np.maximum(np.linalg.norm(ranks, axis=0), np.finfo(float).tiny)
    signed_scores = weights @ ranks
    min_shift = len(feature) // MIN_SHIFT_FRACTION
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
    """Returns ``[T]``, whose product with a unit's ranks is its score with a sign.

    For a binary feature the weights are 2 / (number of ones * number of zeros) at the ones, which gives 2 AUC - 1.
    """
    distinct = np.unique(feature)
    if len(distinct) == 2:
        is_high = feature == distinct[1]
        return 2 * is_high / (is_high.sum() * (~is_high).sum())
    ranks = _centered_ranks(feature)
    return ranks / np.linalg.norm(ranks)


def _centered_ranks(values: np.ndarray) -> np.ndarray:
    """Returns ranks over time less their mean; equal values share their rank."""
    return rankdata(values, axis=0) - (len(values) + 1) / 2


def _check(values: np.ndarray, feature: np.ndarray, num_shifts: int) -> None:
    if values.ndim != 2 or feature.shape != values.shape[:1]:
        raise ValueError(f"feature: got shape {feature.shape} beside values {values.shape}, want [T] beside [T, H]")
    if len(feature) < MIN_STEPS:
        raise ValueError(
            f"feature: got {len(feature)} steps, want at least {MIN_STEPS}: chance is measured by shifting it"
        )
    for name, numbers in (("values", values), ("feature", feature)):
        if not np.isfinite(numbers).all():
            raise ValueError(f"{name}: got numbers that are not finite, want finite ones")
    if (feature == feature[0]).all():
        raise ValueError(f"feature: got {feature[0]:g} throughout, want a feature that changes")
    if num_shifts < 1:
        raise ValueError(f"num_shifts: got {num_shifts}, want at least 1")
