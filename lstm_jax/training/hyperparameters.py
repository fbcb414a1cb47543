"""Search over hyper-parameters by a population: grid and random ones, successive halving, a table and a picture."""

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lstm_jax._core.structs import PyTree
from lstm_jax.training.data import Batches
from lstm_jax.training.metrics import rank_value
from lstm_jax.training.population import Hypers, Population

STEPS_A_CALL = 50
"""At most: a member takes them all before the next one does, with its numbers in the cache; and a call costs once."""


class SearchResult(NamedTuple):
    """What a search gives."""

    params: PyTree
    """of the best member"""
    best: dict[str, float]
    """its row"""
    table: list[dict[str, float]]
    """a row for each member, the best first: ``member``, its hyper-parameters, ``steps`` and metrics"""


def grid(**choices: Sequence[float]) -> Hypers:
    """Every combination: ``grid(rate=[1e-3, 1e-2], dropout=[0.0, 0.3])`` is four members."""
    columns = zip(*product(*choices.values()), strict=True)
    return {name: np.array(column) for name, column in zip(choices, columns, strict=True)}


def sample_hyperparameters(seed: int, members: int, **ranges: tuple[float, float] | tuple[float, float, str]) -> Hypers:
    """Random ones: ``sample_hyperparameters(0, 32, rate=(1e-4, 1e-1, "log"), dropout=(0.0, 0.5))``."""
    rng = np.random.default_rng(seed)
    hypers = {}
    for name, (low, high, *how) in ranges.items():
        if how not in ([], ["log"]) or not low <= high or (how and low <= 0):
            raise ValueError(f"{name}: got {(low, high, *how)}, want (low, high) or (low, high, 'log') with 0 < low")
        shares = rng.random(members)
        hypers[name] = low * (high / low) ** shares if how else low + (high - low) * shares
    return hypers


def search(
    population: Population,
    batches: Batches,
    held_out: Batches,
    *,
    steps: int,
    metric: str = "loss",
    halvings: Sequence[int] = (),
    progress_bar: bool = True,
) -> SearchResult:
    """Trains a population and finds the best member on what is held out: of the smallest metric, or with a minus in
    front, ``"-accuracy"``, of the largest.

    Args:
        batches: ``batches[step]``, shared or of each member as the population says. With halvings they are shared.
        halvings: steps after which only the better half goes on (successive halving, Jamieson and Talwalkar 2016).
    """
    from tqdm import tqdm

    if any(not 0 < halving < steps for halving in halvings):
        raise ValueError(f"halvings: got {tuple(halvings)}, want steps after the first and before the last, {steps}")
    if halvings and not population.shared:
        raise ValueError("halvings: got some with batches of each member's own, want a population with shared=True")
    out: list[dict[str, float]] = []
    piece = max(size for size in range(1, STEPS_A_CALL + 1) if math.gcd(steps, *halvings) % size == 0)
    with tqdm(total=steps, unit="step", disable=not progress_bar, dynamic_ncols=True) as shown:
        for number in range(piece, steps + 1, piece):
            population.run(batches, number - piece, number)
            shown.update(piece)
            if number in halvings and len(population.numbers) > 1:
                rows = population.evaluate(held_out)
                order = sorted(range(len(rows)), key=lambda place: rank_value(rows[place], metric))
                half = (len(rows) + 1) // 2
                out = [rows[place] for place in order[half:]] + out
                population.keep(order[:half])
    rows = population.evaluate(held_out)
    order = sorted(range(len(rows)), key=lambda place: rank_value(rows[place], metric))
    return SearchResult(population.params(order[0]), rows[order[0]], [rows[place] for place in order] + out)


def plot_search(table: list[dict[str, float]], hypers: Sequence[str], path: Path, *, metric: str = "loss") -> None:
    """A picture: the metric of each member against each hyper-parameter; members that were dropped early are pale."""
    from matplotlib.figure import Figure

    metric = metric.removeprefix("-")
    figure = Figure(figsize=(3.4 * len(hypers) + 0.6, 3.2), layout="constrained")
    longest = max(row["steps"] for row in table)
    for axes, name in zip(figure.subplots(1, len(hypers), sharey=True, squeeze=False)[0], hypers, strict=True):
        column = np.array([row[name] for row in table])
        shown = np.array([row[metric] for row in table])
        early = np.array([row["steps"] < longest for row in table])
        axes.plot(column[early], shown[early], "o", color="0.75", markersize=5)
        axes.plot(column[~early], shown[~early], "o", color="#0072B2", markersize=5)
        axes.plot(column[:1], shown[:1], "o", color="#D55E00", markersize=9, fillstyle="none", markeredgewidth=2)
        if column.min() > 0 and column.max() / column.min() > 30:
            axes.set_xscale("log")
        if shown.min() > 0 and shown.max() / shown.min() > 10:
            axes.set_yscale("log")
        axes.set(xlabel=name, ylabel=metric if axes.get_subplotspec().is_first_col() else "")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
