"""Many models at once: members with hyper-parameters, keys and data of their own, trained by one program; and search.

Hyper-parameters that are numbers (learning rate, dropout, weight decay) are traced: all members share one compiled
step. What changes shapes, such as a hidden size, needs a program of its own: search it from outside, with Optuna say.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lstm_jax.structs import PyTree
from lstm_jax.training.data import Batches
from lstm_jax.training.metrics import standing, values
from lstm_jax.training.step import NEVER, Loss, TrainState, init_state, make_train_step, with_loss

Hypers = dict[str, Any]
"""Of one member numbers, of a population arrays ``[K]``."""
Build = Callable[[Hypers], tuple[Loss, optax.GradientTransformation]]
"""A member's loss and optimiser from its hyper-parameters, which are traced."""


STEPS_A_CALL = 50
"""At most: a member takes them all before the next one does, with its numbers in the cache; and a call costs once."""


class Searched(NamedTuple):
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


def draws(seed: int, members: int, **ranges: tuple[float, float] | tuple[float, float, str]) -> Hypers:
    """Random ones: ``draws(0, 32, rate=(1e-4, 1e-1, "log"), dropout=(0.0, 0.5))``."""
    rng = np.random.default_rng(seed)
    hypers = {}
    for name, (low, high, *how) in ranges.items():
        if how not in ([], ["log"]) or not low <= high or (how and low <= 0):
            raise ValueError(f"{name}: got {(low, high, *how)}, want (low, high) or (low, high, 'log') with 0 < low")
        shares = rng.random(members)
        hypers[name] = low * (high / low) ** shares if how else low + (high - low) * shares
    return hypers


class Together:
    """Batches of K members, each its own, stacked: ``Together([Shuffled(arrays, 32, seed=k) for k in range(K)])``."""

    def __init__(self, members: Sequence[Batches]) -> None:
        self.members = members

    def __len__(self) -> int:
        return len(self.members[0])

    def __getitem__(self, step: int) -> PyTree:
        return jax.tree.map(lambda *leaves: np.stack(leaves), *(member[step] for member in self.members))


def each_member(function: Callable[..., PyTree], members: int, own: Sequence[bool]) -> Callable[..., PyTree]:
    """A function of one member for K, spread over the devices that there are.

    On a CPU the members of a device run one after another inside the program, elsewhere together by ``vmap``: XLA's
    batched products of small matrices on CPU are slower, 0.6 to 1.1 of the speed for 32 LSTMs with T=8 H=32 and 16 to
    64 rows (two x86 cores, Zen 4, jax 0.10.2 and 0.12.0).

    Args:
        own: for each argument whether every member has its own, stacked ``[K, ...]``.
    """
    devices = math.gcd(members, jax.local_device_count())
    mesh = jax.make_mesh((devices,), ("member",), axis_types=(AxisType.Auto,), devices=jax.local_devices()[:devices])
    cut = tuple(PartitionSpec("member") if mine else PartitionSpec() for mine in own)

    def here(*arguments: PyTree) -> PyTree:
        if jax.default_backend() != "cpu":
            return jax.vmap(function, in_axes=[0 if mine else None for mine in own])(*arguments)

        def one(stacked: tuple) -> PyTree:
            rest = iter(stacked)
            return function(*(next(rest) if mine else whole for whole, mine in zip(arguments, own, strict=True)))

        return jax.lax.map(one, tuple(whole for whole, mine in zip(arguments, own, strict=True) if mine))

    spread = jax.shard_map(here, mesh=mesh, in_specs=cut, out_specs=PartitionSpec("member"), check_vma=False)

    def everywhere(*arguments: PyTree) -> PyTree:
        placed = [jax.device_put(tree, NamedSharding(mesh, spec)) for tree, spec in zip(arguments, cut, strict=True)]
        return compiled(*placed)

    compiled = jax.jit(spread)
    return everywhere


class Population:
    """K members in training.

    Args:
        build: a member's loss and optimiser.
        draw: ``draw(key) -> params`` of a member.
        hypers: arrays ``[K]`` by name.
        shared: whether all members read the same batches; else batches are stacked, see ``Together``.
    """

    def __init__(
        self, build: Build, draw: Callable[[jax.Array], PyTree], hypers: Hypers, key: jax.Array, *, shared: bool = True
    ) -> None:
        sizes = {name: len(np.atleast_1d(column)) for name, column in hypers.items()}
        if not sizes or len(set(sizes.values())) != 1:
            raise ValueError(f"hypers: got {sizes or 'none'}, want arrays of one length, a number for each member")
        self.build, self.shared = build, shared
        self.numbers = np.arange(next(iter(sizes.values())))
        self.hypers = {name: jnp.atleast_1d(jnp.asarray(column, jnp.float32)) for name, column in hypers.items()}

        def start(hyper: Hypers, key: jax.Array) -> TrainState:
            draw_key, own_key = jax.random.split(key)
            return init_state(draw(draw_key), build(hyper)[1], own_key)

        keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.asarray(self.numbers))
        self.states = jax.jit(jax.vmap(start))(self.hypers, keys)
        self._compile()

    def _compile(self) -> None:
        def run(hyper: Hypers, state: TrainState, batches: PyTree) -> TrainState:
            step = make_train_step(*self.build(hyper))
            return jax.lax.scan(lambda state, batch: (step(state, batch)[0], None), state, batches)[0]

        def look(hyper: Hypers, params: PyTree, batch: PyTree) -> dict[str, Any]:
            loss, (_, metrics) = self.build(hyper)[0](params, None, batch, None)
            return with_loss(metrics, loss)

        members = len(self.numbers)
        self._run = each_member(run, members, (True, True, not self.shared))
        self._look = each_member(look, members, (True, True, False))

    def run(self, batches: Batches, start: int, stop: int) -> None:
        """The steps from start to stop of every member, in one call."""
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(batches[step] for step in range(start, stop)))
        if not self.shared:
            stacked = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), stacked)
        self.states = self._run(self.hypers, self.states, stacked)

    def evaluate(self, batches: Batches) -> list[dict[str, float]]:
        """A row for each member: its number, hyper-parameters, steps and metrics; NaN for one that failed."""
        found = [self._look(self.hypers, self.states.params, batches[number]) for number in range(len(batches))]
        sums = jax.device_get(found[0] if len(found) == 1 else jax.tree.map(lambda *leaves: sum(leaves), *found))
        failed = np.asarray(self.states.failure.step) != NEVER
        rows = []
        for place, number in enumerate(self.numbers):
            row = {"member": int(number)} | {name: float(column[place]) for name, column in self.hypers.items()}
            row["steps"] = int(self.states.step[place])
            mine = values(jax.tree.map(lambda leaf, place=place: leaf[place], sums))
            rows.append(row | {name: math.nan if failed[place] else value for name, value in mine.items()})
        return rows

    def keep(self, places: Sequence[int]) -> None:
        """Goes on with these members only."""
        chosen = np.asarray(places)
        pick = partial(jax.tree.map, lambda leaf: leaf[chosen])
        self.numbers, self.hypers, self.states = self.numbers[chosen], pick(self.hypers), pick(self.states)
        self._compile()

    def params(self, place: int) -> PyTree:
        """One member's parameters."""
        return jax.tree.map(lambda leaf: leaf[place], self.states.params)


def search(
    population: Population,
    batches: Batches,
    held_out: Batches,
    *,
    steps: int,
    metric: str = "loss",
    halvings: Sequence[int] = (),
    bar: bool = True,
) -> Searched:
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
    with tqdm(total=steps, unit="step", disable=not bar, dynamic_ncols=True) as shown:
        for number in range(piece, steps + 1, piece):
            population.run(batches, number - piece, number)
            shown.update(piece)
            if number in halvings and len(population.numbers) > 1:
                rows = population.evaluate(held_out)
                order = sorted(range(len(rows)), key=lambda place: standing(rows[place], metric))
                half = (len(rows) + 1) // 2
                out = [rows[place] for place in order[half:]] + out
                population.keep(order[:half])
    rows = population.evaluate(held_out)
    order = sorted(range(len(rows)), key=lambda place: standing(rows[place], metric))
    return Searched(population.params(order[0]), rows[order[0]], [rows[place] for place in order] + out)


def draw_search(table: list[dict[str, float]], hypers: Sequence[str], path: Path, *, metric: str = "loss") -> None:
    """A picture: the metric of each member against each hyper-parameter; members that were dropped early are pale."""
    from matplotlib.figure import Figure

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
