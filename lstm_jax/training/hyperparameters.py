"""Hyperparameter search with a population: grid search, random search, successive halving and plots."""

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from lstm_jax._core.extras import import_extra
from lstm_jax._core.structs import PyTree
from lstm_jax.training.batches import Batches
from lstm_jax.training.metrics import rank_value
from lstm_jax.training.population import Hyperparameters, Population, PopulationState, member_params, select_members
from lstm_jax.training.progress import Progress

MAX_STEPS_PER_CALL = 50
"""Maximum steps per compiled call. Many steps amortize its overhead and keep a member's arrays in the CPU cache."""


class SearchResult(NamedTuple):
    """The result of a hyperparameter search."""

    params: PyTree
    """parameters of the best member"""
    best: dict[str, float]
    """row of the best member, ``table[0]``"""
    table: list[dict[str, float]]
    """one row per member, best first: ``member`` (its index), its hyperparameters, ``steps`` and metrics"""


def grid(**choices: Sequence[float]) -> Hyperparameters:
    """Returns all combinations of the given values as hyperparameters, one combination per member.

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
    """Samples hyperparameters from uniform or log-uniform distributions.

    Args:
        seed: seed of the NumPy generator.
        num_members: number of samples of each hyperparameter.
        ranges: by name ``(low, high)`` for a uniform, or ``(low, high, "log")`` with 0 < low for a log-uniform
            distribution.
    Returns:
        hyperparameters: arrays ``[num_members]`` by name.
    Raises:
        ValueError: ``low`` exceeds ``high``, ``low`` is not positive with ``"log"``, or a range has another form.
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
        uniform = rng.random(num_members)
        hyperparameters[name] = low * (high / low) ** uniform if scale else low + (high - low) * uniform
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
    """Trains one member per hyperparameter combination and ranks all members on held-out data.

    Args:
        population: the loss, optimizer and initializer of the members.
        key: PRNG key from which each member derives its own.
        hyperparameters: arrays ``[K]`` by name, from ``grid(...)`` or ``sample_hyperparameters(...)``.
        batches: training batches indexed by step; stacked, see ``StackedBatches``, for ``Population(shared=False)``.
        held_out: batches on which to rank the members; each ranking reads one epoch.
        steps: training steps of each member that is not dropped.
        metric: metric to rank by, smallest first; the prefix ``-`` ranks the largest first, as in ``"-accuracy"``.
        halvings: steps after which the worse half of the members is dropped (successive halving, Jamieson and
            Talwalkar 2016); empty means that all members train to the end.
        progress_bar: whether to show progress.
    Returns:
        result: a ``SearchResult`` with the parameters and row of the best member, and a table of all members.
    Raises:
        ValueError: a halving is not strictly between 0 and ``steps``; ``halvings`` are given for a population with
            ``shared=False``; or ``metric`` is not a metric of the loss.
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
        raise ValueError("halvings: got a population with shared=False, want one with shared=True")
    state = population.init_state(key, hyperparameters)
    dropped_rows: list[dict[str, float]] = []
    steps_per_call = max(size for size in range(1, MAX_STEPS_PER_CALL + 1) if math.gcd(steps, *halvings) % size == 0)
    with Progress(steps, 0, enabled=progress_bar) as progress:
        for stop in range(steps_per_call, steps + 1, steps_per_call):
            state = population.run(state, batches, stop - steps_per_call, stop)
            progress.advance(stop)
            if stop in halvings and len(state.members) > 1:
                rows, order = _rank_members(population, state, held_out, metric)
                num_kept = (len(rows) + 1) // 2
                dropped_rows = [rows[index] for index in order[num_kept:]] + dropped_rows
                state = select_members(state, order[:num_kept])
    rows, order = _rank_members(population, state, held_out, metric)
    table = [rows[index] for index in order] + dropped_rows
    return SearchResult(member_params(state, order[0]), table[0], table)


def plot_search(
    table: list[dict[str, float]], hyperparameters: Sequence[str], path: Path, *, metric: str = "loss"
) -> None:
    """Plots a metric of all members against each hyperparameter.

    Members dropped by a halving are gray, and a circle marks the best member.

    Args:
        table: ``SearchResult.table``.
        hyperparameters: names of the hyperparameters to plot, one panel each.
        path: image file to write; its suffix selects the format.
        metric: metric to plot; a prefix ``-`` is ignored.
    Raises:
        ImportError: matplotlib is not installed.
    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lstm_jax import training
        >>> table = [{"rate": 0.1, "steps": 9, "loss": 0.2}, {"rate": 0.01, "steps": 9, "loss": 0.5}]
        >>> training.plot_search(table, ["rate"], Path(tempfile.mkdtemp()) / "search.png")
    """
    figure_module = import_extra("matplotlib.figure", "training")
    metric = metric.removeprefix("-")
    figure = figure_module.Figure(figsize=(3.4 * len(hyperparameters) + 0.6, 3.2), layout="constrained")
    max_steps = max(row["steps"] for row in table)
    panels = figure.subplots(1, len(hyperparameters), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, hyperparameters, strict=True):
        x = np.array([row[name] for row in table])
        y = np.array([row[metric] for row in table])
        is_dropped = np.array([row["steps"] < max_steps for row in table])
        axes.plot(x[is_dropped], y[is_dropped], "o", color="0.75", markersize=5)
        axes.plot(x[~is_dropped], y[~is_dropped], "o", color="#0072B2", markersize=5)
        axes.plot(x[:1], y[:1], "o", color="#D55E00", markersize=9, fillstyle="none", markeredgewidth=2)
        if x.min() > 0 and x.max() / x.min() > 30:
            axes.set_xscale("log")
        if y.min() > 0 and y.max() / y.min() > 10:
            axes.set_yscale("log")
        axes.set(xlabel=name, ylabel=metric if axes.get_subplotspec().is_first_col() else "")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _rank_members(
    population: Population, state: PopulationState, held_out: Batches, metric: str
) -> tuple[list[dict[str, float]], list[int]]:
    """Returns the row of each member, and the indices of the rows sorted from best to worst."""
    rows = population.evaluate(state, held_out)
    return rows, sorted(range(len(rows)), key=lambda index: rank_value(rows[index], metric))
