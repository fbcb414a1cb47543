"""Search over hyperparameters by a population: grid and random search, successive halving, a table and a picture."""

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from lstm_jax._core.structs import PyTree
from lstm_jax.training.batches import Batches
from lstm_jax.training.extras import import_extra
from lstm_jax.training.metrics import rank_value
from lstm_jax.training.population import Hyperparameters, Population, PopulationState, member_params, select_members
from lstm_jax.training.progress import Progress

MAX_STEPS_PER_CALL = 50
"""A member takes all steps of a call before the next one does, with its numbers in the cache; and a call costs once."""


class SearchResult(NamedTuple):
    """The best member of a population, and all of them."""

    params: PyTree
    """of the best member"""
    best: dict[str, float]
    """its row"""
    table: list[dict[str, float]]
    """a row for each member, the best first: ``member``, its hyperparameters, ``steps`` and metrics"""


def grid(**choices: Sequence[float]) -> Hyperparameters:
    """Returns every combination of the choices, one for each member.

    Example:
        >>> from lstm_jax import training
        >>> {name: column.tolist() for name, column in training.grid(rate=[0.01, 0.1], dropout=[0.0, 0.3]).items()}
        {'rate': [0.01, 0.01, 0.1, 0.1], 'dropout': [0.0, 0.3, 0.0, 0.3]}
    """
    columns = zip(*product(*choices.values()), strict=True)
    return {name: np.array(column) for name, column in zip(choices, columns, strict=True)}


def sample_hyperparameters(
    seed: int, num_members: int, **ranges: tuple[float, float] | tuple[float, float, str]
) -> Hyperparameters:
    """Samples hyperparameters at random, uniformly or uniformly in their logarithm.

    Args:
        seed: of NumPy's generator.
        num_members: how many to sample.
        ranges: ``(low, high)`` by name, or ``(low, high, "log")`` with 0 < low.
    Returns:
        hyperparameters: arrays ``[num_members]`` by name.
    Raises:
        ValueError: a range is none; the message names it.
    Example:
        >>> from lstm_jax import training
        >>> sampled = training.sample_hyperparameters(0, 32, rate=(1e-4, 1e-1, "log"), dropout=(0.0, 0.5))
        >>> sampled["rate"].shape, bool((sampled["dropout"] <= 0.5).all())
        ((32,), True)
    """
    rng = np.random.default_rng(seed)
    hyperparameters = {}
    for name, (low, high, *scale) in ranges.items():
        if scale not in ([], ["log"]) or not low <= high or (scale and low <= 0):
            raise ValueError(f"{name}: got {(low, high, *scale)}, want (low, high) or (low, high, 'log') with 0 < low")
        shares = rng.random(num_members)
        hyperparameters[name] = low * (high / low) ** shares if scale else low + (high - low) * shares
    return hyperparameters


def search(
    population: Population,
    key: jax.Array,
    hyperparameters: Hyperparameters,
    batches: Batches,
    held_out: Batches,
    *,
    steps: int,
    metric: str = "loss",
    halvings: Sequence[int] = (),
    progress_bar: bool = True,
) -> SearchResult:
    """Trains a population and returns the member that is the best on what is held out.

    Args:
        population: how members are begun and trained.
        key: the randomness of all members.
        hyperparameters: arrays ``[K]`` by name: ``grid(...)`` or ``sample_hyperparameters(...)``.
        batches: ``batches[step]``, shared or stacked as the population says; with halvings they are shared.
        held_out: batches of which one epoch is read to rank the members.
        steps: of each member that is not dropped.
        metric: the smallest is the best, or with ``-`` in front, ``"-accuracy"``, the largest.
        halvings: steps after which only the better half goes on (successive halving, Jamieson and Talwalkar 2016).
        progress_bar: whether to show progress.
    Returns:
        result: parameters and row of the best member, and the table of all.
    Raises:
        ValueError: a halving is not between 0 and ``steps``, or members have batches of their own.
    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, optax
        >>> from lstm_jax import training
        >>> loss_fn = training.stateless(lambda params, batch, key: (jnp.mean((params - batch) ** 2), {}))
        >>> population = training.Population(lambda h: (loss_fn, optax.sgd(h["rate"])), lambda key: jnp.float32(1))
        >>> data, rates = training.Shuffled(np.zeros(8, np.float32), 4), training.grid(rate=[0.01, 0.1])
        >>> result = training.search(population, jax.random.key(0), rates, data, data, steps=5, progress_bar=False)
        >>> result.best["member"]
        1
    """
    if any(not 0 < halving < steps for halving in halvings):
        raise ValueError(f"halvings: got {tuple(halvings)}, want steps after the first and before the last, {steps}")
    if halvings and not population.shared:
        raise ValueError("halvings: got some with batches of each member's own, want a population with shared=True")
    state = population.init_state(key, hyperparameters)
    dropped: list[dict[str, float]] = []
    steps_per_call = max(size for size in range(1, MAX_STEPS_PER_CALL + 1) if math.gcd(steps, *halvings) % size == 0)
    with Progress(steps, 0, enabled=progress_bar) as progress:
        for stop in range(steps_per_call, steps + 1, steps_per_call):
            state = population.run(state, batches, stop - steps_per_call, stop)
            progress.advance(stop)
            if stop in halvings and len(state.members) > 1:
                rows, order = _rank(population, state, held_out, metric)
                half = (len(rows) + 1) // 2
                dropped = [rows[index] for index in order[half:]] + dropped
                state = select_members(state, order[:half])
    rows, order = _rank(population, state, held_out, metric)
    table = [rows[index] for index in order] + dropped
    return SearchResult(member_params(state, order[0]), table[0], table)


def plot_search(
    table: list[dict[str, float]], hyperparameters: Sequence[str], path: Path, *, metric: str = "loss"
) -> None:
    """Plots the metric of each member against each hyperparameter; members that were dropped early are pale.

    Args:
        table: ``SearchResult.table``.
        hyperparameters: the names to plot, a panel for each.
        path: the file of the picture; its suffix says of which format.
        metric: the one to plot, with or without ``-`` in front.
    Raises:
        ImportError: matplotlib is not installed.
    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lstm_jax import training
        >>> table = [{"rate": 0.1, "steps": 9, "loss": 0.2}, {"rate": 0.01, "steps": 9, "loss": 0.5}]
        >>> training.plot_search(table, ["rate"], Path(tempfile.mkdtemp()) / "search.png")
    """
    figure_module = import_extra("matplotlib.figure")
    metric = metric.removeprefix("-")
    figure = figure_module.Figure(figsize=(3.4 * len(hyperparameters) + 0.6, 3.2), layout="constrained")
    most_steps = max(row["steps"] for row in table)
    panels = figure.subplots(1, len(hyperparameters), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, hyperparameters, strict=True):
        column = np.array([row[name] for row in table])
        plotted = np.array([row[metric] for row in table])
        is_dropped = np.array([row["steps"] < most_steps for row in table])
        axes.plot(column[is_dropped], plotted[is_dropped], "o", color="0.75", markersize=5)
        axes.plot(column[~is_dropped], plotted[~is_dropped], "o", color="#0072B2", markersize=5)
        axes.plot(column[:1], plotted[:1], "o", color="#D55E00", markersize=9, fillstyle="none", markeredgewidth=2)
        if column.min() > 0 and column.max() / column.min() > 30:
            axes.set_xscale("log")
        if plotted.min() > 0 and plotted.max() / plotted.min() > 10:
            axes.set_yscale("log")
        axes.set(xlabel=name, ylabel=metric if axes.get_subplotspec().is_first_col() else "")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _rank(
    population: Population, state: PopulationState, held_out: Batches, metric: str
) -> tuple[list[dict[str, float]], list[int]]:
    """Each member's row, and their places, the best first."""
    rows = population.evaluate(state, held_out)
    return rows, sorted(range(len(rows)), key=lambda index: rank_value(rows[index], metric))
