"""Which cells track something in the input: the search for the quote cell and its kin, with a score against chance.

    score = |2 AUC - 1|            of a yes-or-no feature: how well the cell's value tells yes from no
    score = |Spearman's rho|       of a number: how well its order follows the feature's

Both are 0 by chance and 1 when perfect. Some cell of many follows anything a little, and neighbouring steps are alike;
so chance is measured by shifting the feature around in time. That presumes that cell and feature behave alike
throughout: a trend over the whole sequence, in both, passes for tracking. Karpathy, Johnson and Li 2015
(arXiv:1506.02078) found such cells by eye.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy.stats import rankdata

ONE_IN_TWENTY = 0.95
LEAST = 40
"""steps"""


class Tracking(NamedTuple):
    """How well each cell follows a feature."""

    scores: np.ndarray
    """``[H]``, 0 to 1"""
    signs: np.ndarray
    """``[H]``: 1 where the cell is high with the feature, -1 where it is low"""
    order: np.ndarray
    """``[H]``: cells, the best first"""
    chance: np.ndarray
    """``[K]``: the best score of any cell for each shifted feature, sorted"""
    chance_each: np.ndarray
    """``[H]``: what each cell by itself reaches in one of twenty shifts; for a cell that was chosen on other data"""

    @property
    def best(self) -> int:
        """The cell that follows it best."""
        return int(self.order[0])

    @property
    def chance_level(self) -> float:
        """What the best cell reaches in one of twenty shifts."""
        return float(np.quantile(self.chance, ONE_IN_TWENTY))


def track(values: ArrayLike, feature: ArrayLike, *, shifts: int = 200, seed: int = 0) -> Tracking:
    """Ranks cells by how well they follow a feature of the input.

        seen = diagnostics.trace(params, xs)
        found = diagnostics.track(seen["c"], inside_string)
        found.best, found.scores[found.best], found.chance_level

    Args:
        values: ``[T, H]``, of a trace of one sequence.
        feature: ``[T]``, numbers or booleans; two different values count as no and yes.
        shifts: of the feature around the sequence, by at least a twentieth of it, that measure chance.
        seed: of the shifts.
    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, a feature that never changes.
    """
    cells, truth = np.asarray(values, np.float64), np.asarray(feature, np.float64)
    _check(cells, truth, shifts)
    weigh, ranks = _weights(truth), _centred(cells)
    if len(np.unique(truth)) > 2:
        ranks = ranks / np.maximum(np.linalg.norm(ranks, axis=0), np.finfo(float).tiny)
    found = weigh @ ranks
    margin = len(truth) // 20
    places = np.random.default_rng(seed).integers(margin, len(truth) - margin, shifts)
    by_chance = np.stack([np.abs(np.roll(weigh, place) @ ranks) for place in places])
    scores = np.abs(found)
    order = np.argsort(-scores, kind="stable")
    return Tracking(
        scores, np.sign(found), order, np.sort(by_chance.max(axis=1)), np.quantile(by_chance, ONE_IN_TWENTY, axis=0)
    )


def _weights(truth: np.ndarray) -> np.ndarray:
    """What turns ranks into a score: of yes and no, 2 / (how many of each) where it is yes gives 2 AUC - 1."""
    different = np.unique(truth)
    if len(different) == 2:
        yes = truth == different[1]
        return 2 * yes / (yes.sum() * (~yes).sum())
    ranks = _centred(truth)
    return ranks / np.linalg.norm(ranks)


def _centred(values: np.ndarray) -> np.ndarray:
    """Ranks over time around 0, equal ones sharing theirs."""
    return rankdata(values, axis=0) - (len(values) + 1) / 2


def _check(cells: np.ndarray, truth: np.ndarray, shifts: int) -> None:
    if cells.ndim != 2 or truth.shape != cells.shape[:1]:
        raise ValueError(f"feature: got shape {truth.shape} beside values {cells.shape}, want [T] beside [T, H]")
    if len(truth) < LEAST:
        raise ValueError(f"feature: got {len(truth)} steps, want at least {LEAST}: chance is measured by shifting it")
    for name, numbers in (("values", cells), ("feature", truth)):
        if not np.isfinite(numbers).all():
            raise ValueError(f"{name}: got numbers that are not finite, want finite ones")
    if (truth == truth[0]).all():
        raise ValueError(f"feature: got {truth[0]:g} throughout, want a feature that changes")
    if shifts < 1:
        raise ValueError(f"shifts: got {shifts}, want at least 1")
