"""Which cells track something in the input: the search for the quote cell and its kin, with a score against chance.

    score = |2 AUC - 1|            of a yes-or-no feature: how well the cell's value tells yes from no
    score = |Spearman's rho|       of a number: how well its order follows the feature's

Both are rank correlations, 0 by chance and 1 when perfect. Some cell of many correlates with anything, and neighbouring
steps are alike; so chance is measured: the best score of any cell when the feature is shifted around in time. Karpathy,
Johnson and Li 2015 (arXiv:1506.02078) found such cells by eye.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy.stats import rankdata

ONE_IN_TWENTY = 0.95


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
        feature: ``[T]``, booleans or numbers.
        shifts: of the feature around the sequence, by at least a twentieth of it, that measure chance.
        seed: of the shifts.
    Raises:
        ValueError: shapes that do not fit, a feature that never changes.
    """
    cells, truth = np.asarray(values, np.float64), np.asarray(feature)
    if cells.ndim != 2 or truth.shape != cells.shape[:1]:
        raise ValueError(f"feature: got shape {truth.shape} beside values {cells.shape}, want [T] beside [T, H]")
    if len(truth) < 40 or (truth == truth[0]).all():
        raise ValueError("feature: want at least 40 steps and a feature that changes")
    ranks, wanted = _standard(rankdata(cells, axis=0)), _standard(rankdata(truth))
    scale = _ceiling(truth, wanted)
    found = wanted @ ranks / scale
    margin = len(truth) // 20
    places = np.random.default_rng(seed).integers(margin, len(truth) - margin, shifts)
    shifted = np.stack([np.roll(wanted, place) for place in places])
    by_chance = np.abs(shifted @ ranks / scale)
    scores = np.abs(found)
    order = np.argsort(-scores, kind="stable")
    return Tracking(
        scores, np.sign(found), order, np.sort(by_chance.max(axis=1)), np.quantile(by_chance, ONE_IN_TWENTY, axis=0)
    )


def _standard(ranks: np.ndarray) -> np.ndarray:
    """Mean 0 and length 1 over time; a cell that never changes stays 0."""
    centred = ranks - ranks.mean(axis=0)
    size = np.linalg.norm(centred, axis=0)
    return centred / np.where(size > 0, size, 1)


def _ceiling(feature: np.ndarray, wanted: np.ndarray) -> float:
    """The correlation of a perfect cell without ties: below 1 for yes and no, where it makes the score |2 AUC - 1|."""
    if feature.dtype != bool:
        return 1.0
    perfect = np.empty(len(feature))
    perfect[np.argsort(feature, kind="stable")] = np.arange(len(feature))
    return float(wanted @ _standard(perfect))
