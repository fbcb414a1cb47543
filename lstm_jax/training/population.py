"""Many models at once: members with hyper-parameters, keys and data of their own, trained by one program.

Hyper-parameters that are numbers (learning rate, dropout, weight decay) are traced: all members share one compiled
step. What changes shapes, such as a hidden size, needs a program of its own: search it from outside, with Optuna say.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lstm_jax._core.structs import PyTree
from lstm_jax.training.data import Batches
from lstm_jax.training.metrics import add, values
from lstm_jax.training.step import NEVER, Loss, TrainState, init_state, make_train_step, with_loss

Hypers = dict[str, Any]
"""Of one member numbers, of a population arrays ``[K]``."""
Build = Callable[[Hypers], tuple[Loss, optax.GradientTransformation]]
"""A member's loss and optimiser from its hyper-parameters, which are traced."""


class StackedBatches:
    """Batches of K members, each its own, stacked: ``StackedBatches([Shuffled(arrays, 32, seed=k) for k in
    range(K)])``."""

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
        shared: whether all members read the same batches; else batches are stacked, see ``StackedBatches``.
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
        sums = jax.device_get(reduce(add, found))
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
