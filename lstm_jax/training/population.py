"""Many models at once: members with hyperparameters, keys and data of their own, trained by one program.

Hyperparameters that are numbers (learning rate, dropout, weight decay) are traced: all members share one compiled step.
What changes shapes, such as a hidden size, needs a program of its own and is searched from outside, for example by
Optuna.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lstm_jax._core.structs import PyTree
from lstm_jax.training.batches import Batches, batch_at
from lstm_jax.training.failures import NEVER
from lstm_jax.training.loss import LossFn, with_loss
from lstm_jax.training.members import map_members, member_sharding, place_and_map
from lstm_jax.training.metrics import PerMember, add, values
from lstm_jax.training.step import TrainState, TrainStep, init_state, make_train_step

Hyperparameters = dict[str, Any]
"""Numbers by name for one member, arrays ``[K]`` by name for a population."""
MakeLossAndOptimizer = Callable[[Hyperparameters], tuple[LossFn, optax.GradientTransformation]]
"""Makes a member's loss and optimizer from its hyperparameters, which are traced."""


class StackedBatches:
    """Batches of K members, each member's own, stacked along a first axis.

    Args:
        members: K sets of batches by number, all of one length.
    Example:
        >>> import numpy as np
        >>> from lstm_jax import training
        >>> rows = np.arange(8)
        >>> training.StackedBatches([training.Shuffled(rows, 2, seed=member) for member in range(3)])[0].shape
        (3, 2)
    """

    def __init__(self, members: Sequence[Batches]) -> None:
        self.members = members

    def __len__(self) -> int:
        return len(self.members[0])

    def __getitem__(self, step: int) -> PyTree:
        return jax.tree.map(lambda *leaves: np.stack(leaves), *(member[step] for member in self.members))


class PopulationState(NamedTuple):
    """The members of a population, each array with an axis ``[K]`` in front."""

    members: np.ndarray
    """int ``[K]``: the number that each member had at the start"""
    hyperparameters: Hyperparameters
    """float32 ``[K]`` by name"""
    train_states: TrainState


class Population:
    """Functions that train K members at once; what they work on is a ``PopulationState``.

    Args:
        make_loss_and_optimizer: ``make_loss_and_optimizer(hyperparameters) -> (loss_fn, optimizer)`` of a member.
        init: ``init(key) -> params`` of a member.
        shared: whether all members read the same batches; else batches are stacked, see ``StackedBatches``.
    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, optax
        >>> from lstm_jax import training
        >>> loss_fn = training.stateless(lambda params, batch, key: (jnp.mean((params - batch) ** 2), {}))
        >>> population = training.Population(lambda h: (loss_fn, optax.sgd(h["rate"])), lambda key: jnp.float32(1))
        >>> state = population.init_state(jax.random.key(0), {"rate": [0.0, 0.5]})
        >>> state = population.run(state, [np.zeros(4, np.float32)], 0, 1)
        >>> [row["loss"] for row in population.evaluate(state, [np.zeros(4, np.float32)])]
        [1.0, 0.0]
    """

    def __init__(
        self,
        make_loss_and_optimizer: MakeLossAndOptimizer,
        init: Callable[[jax.Array], PyTree],
        *,
        shared: bool = True,
    ) -> None:
        self.make_loss_and_optimizer, self.init, self.shared = make_loss_and_optimizer, init, shared

        def run(hyperparameters: Hyperparameters, state: TrainState, batches: PyTree) -> TrainState:
            step = make_train_step(*make_loss_and_optimizer(hyperparameters))
            return jax.lax.scan(lambda state, batch: (step(state, batch)[0], None), state, batches)[0]

        def take_step(hyperparameters: Hyperparameters, state: TrainState, batch: PyTree, extra: Any) -> Any:
            return make_train_step(*make_loss_and_optimizer(hyperparameters))(state, batch, **extra)

        def evaluate(hyperparameters: Hyperparameters, params: PyTree, batch: PyTree) -> dict[str, Any]:
            loss, (_, metrics) = make_loss_and_optimizer(hyperparameters)[0](params, None, batch, None)
            return with_loss(metrics, loss)

        self._run = lru_cache(partial(place_and_map, run, (True, True, not shared)))
        self._step = partial(map_members, take_step, (True, True, not shared, False))
        self._evaluate_placed = lru_cache(partial(place_and_map, evaluate, (True, True, False)))
        self._evaluate = partial(map_members, evaluate, (True, True, False))

    def init_state(self, key: jax.Array, hyperparameters: Hyperparameters) -> PopulationState:
        """Returns the members before their first step.

        Args:
            key: member k draws its parameters and its own key from ``fold_in(key, k)``.
            hyperparameters: arrays ``[K]`` by name, such as ``grid`` or ``sample_hyperparameters`` make.
        Returns:
            state: of K members.
        Raises:
            ValueError: there are no hyperparameters, or their lengths differ.
        """
        columns = check_hyperparameters(hyperparameters)
        members = np.arange(len(next(iter(columns.values()))))
        return PopulationState(members, columns, self._init_members(key, columns))

    def run(self, state: PopulationState, batches: Batches, start: int, stop: int) -> PopulationState:
        """Takes several steps of every member in one call.

        Args:
            state: before these steps.
            batches: ``batches[step]``, shared or stacked as the population says.
            start: the number of the first batch.
            stop: the number after the last batch.
        Returns:
            state: after these steps.
        """
        numbers = range(start, stop)
        chosen = (batch_at(batches, step) for step in numbers)
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *chosen)
        if not self.shared:
            stacked = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), stacked)
        run = self._run(len(state.members))
        return state._replace(train_states=run(state.hyperparameters, state.train_states, stacked))

    def evaluate(self, state: PopulationState, batches: Batches) -> list[dict[str, float]]:
        """Computes every member's metrics over one epoch.

        Args:
            state: the members.
            batches: shared by all of them.
        Returns:
            rows: for each member ``member``, its number, its hyperparameters, ``steps`` and metrics, which are NaN for
            a member that met a number that is not finite.
        """
        evaluate, params = self._evaluate_placed(len(state.members)), state.train_states.params
        parts = [evaluate(state.hyperparameters, params, batches[number]) for number in range(len(batches))]
        sums = jax.device_get(reduce(add, parts))
        failed = np.asarray(state.train_states.failure.step) != NEVER
        rows = []
        for index, member in enumerate(state.members):
            row: dict[str, float] = {"member": int(member)}
            row |= {name: float(column[index]) for name, column in state.hyperparameters.items()}
            row["steps"] = int(state.train_states.step[index])
            named = values(jax.tree.map(lambda leaf, index=index: leaf[index], sums))
            rows.append(row | {name: math.nan if failed[index] else value for name, value in named.items()})
        return rows

    def make_step(self, hyperparameters: Hyperparameters) -> TrainStep:
        """Makes a step of the whole population for ``fit``, which gives it progress, validation and checkpoints.

        In ``fit`` its ``params`` are None, since members draw their own, and rows hold the mean over members,
        ``"loss"``, beside the number of each, ``"loss 0"``, ``"loss 1"``. Validation keeps all members as they are at
        the best row.

        Args:
            hyperparameters: arrays ``[K]`` by name.
        Returns:
            step: over a ``TrainState`` whose arrays have an axis ``[K]`` in front.
        Raises:
            ValueError: there are no hyperparameters, or their lengths differ.
        """
        columns = check_hyperparameters(hyperparameters)
        num_members = len(next(iter(columns.values())))

        def init(params: PyTree, key: jax.Array, carry: PyTree) -> TrainState:
            if params is not None or carry is not None:
                raise ValueError("params, carry: got some for a population, want None: members draw their own")
            return self._init_members(key, columns)

        def step(state: TrainState, batch: PyTree, **extra: Any) -> tuple[TrainState, dict[str, Any]]:
            state, metrics = self._step(num_members)(columns, state, batch, extra)
            return state, {name: PerMember(accumulator) for name, accumulator in metrics.items()}

        def loss_fn(params: PyTree, carry: PyTree, batch: PyTree, key: Any) -> tuple[jax.Array, tuple[PyTree, dict]]:
            metrics = self._evaluate(num_members)(columns, params, batch)
            named = {name: PerMember(accumulator) for name, accumulator in metrics.items()}
            return named["loss"].value(), (carry, named)

        return TrainStep(step, init, loss_fn)

    def _init_members(self, key: jax.Array, columns: Hyperparameters) -> TrainState:
        def init_member(hyperparameters: Hyperparameters, key: jax.Array) -> TrainState:
            init_key, own_key = jax.random.split(key)
            return init_state(self.init(init_key), self.make_loss_and_optimizer(hyperparameters)[1], own_key)

        members = jnp.arange(len(next(iter(columns.values()))))
        keys = jax.vmap(partial(jax.random.fold_in, key))(members)
        return jax.jit(jax.vmap(init_member), out_shardings=member_sharding(len(members)))(columns, keys)


def select_members(state: PopulationState, indices: Sequence[int]) -> PopulationState:
    """Returns some members of a population as a smaller one.

    Args:
        state: K members.
        indices: places along the axis ``[K]``, in the order wanted.
    Returns:
        state: those members, which keep their numbers.
    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from lstm_jax import training
        >>> loss_fn = training.stateless(lambda params, batch, key: (jnp.mean((params - batch) ** 2), {}))
        >>> population = training.Population(lambda h: (loss_fn, optax.sgd(h["rate"])), lambda key: jnp.float32(1))
        >>> state = population.init_state(jax.random.key(0), training.grid(rate=[0.1, 0.2, 0.3]))
        >>> training.select_members(state, [2, 0]).members.tolist()
        [2, 0]
    """
    chosen = np.asarray(indices)
    pick = partial(jax.tree.map, lambda leaf: leaf[chosen])
    return PopulationState(state.members[chosen], pick(state.hyperparameters), pick(state.train_states))


def member_params(state: PopulationState, index: int) -> PyTree:
    """Returns one member's parameters.

    Args:
        state: K members.
        index: its place along the axis ``[K]``.
    Returns:
        params: without that axis.
    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from lstm_jax import training
        >>> loss_fn = training.stateless(lambda params, batch, key: (jnp.mean((params - batch) ** 2), {}))
        >>> population = training.Population(lambda h: (loss_fn, optax.sgd(h["rate"])), lambda key: jnp.ones(2))
        >>> state = population.init_state(jax.random.key(0), training.grid(rate=[0.1, 0.2, 0.3]))
        >>> training.member_params(state, 0).shape
        (2,)
    """
    return jax.tree.map(lambda leaf: leaf[index], state.train_states.params)


def check_hyperparameters(hyperparameters: Hyperparameters) -> Hyperparameters:
    """Returns hyperparameters as float32 arrays ``[K]``.

    Raises:
        ValueError: there are none, or their lengths differ.
    """
    sizes = {name: len(np.atleast_1d(column)) for name, column in hyperparameters.items()}
    if not sizes or len(set(sizes.values())) != 1:
        raise ValueError(f"hyperparameters: got {sizes or 'none'}, want arrays of one length, a number for each member")
    return {name: jnp.atleast_1d(jnp.asarray(column, jnp.float32)) for name, column in hyperparameters.items()}
