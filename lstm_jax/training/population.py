"""Populations: many models with separate hyperparameters, keys and data, trained together by one compiled step.

Hyperparameters are traced numbers, such as learning rate, dropout rate or weight decay, so all members share the
compiled step. A hyperparameter that changes array shapes, such as the hidden size, needs one population per value.
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
"""Hyperparameters by name: scalars for one member, arrays ``[K]`` for a population of K members."""
MakeLossAndOptimizer = Callable[[Hyperparameters], tuple[LossFn, optax.GradientTransformation]]
"""``make(hyperparameters) -> (loss_fn, optimizer)`` of one member, whose hyperparameters are traced scalars."""


class StackedBatches:
    """Stacks the batches of K members along a new first axis, for a population with ``shared=False``.

    Args:
        members: the batches of each member, indexed by step; all of the same length.
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
    """The training state of a population of K members."""

    members: np.ndarray
    """int ``[K]``: index of each member in the initial population"""
    hyperparameters: Hyperparameters
    """float32 ``[K]`` by name"""
    train_states: TrainState
    """a ``TrainState`` whose arrays have a leading axis ``[K]``"""


class Population:
    """Pure functions that initialize, train and evaluate K members at once.

    Args:
        make_loss_and_optimizer: ``make_loss_and_optimizer(hyperparameters) -> (loss_fn, optimizer)`` of one member. The
            loss keeps no carry, see ``stateless``.
        init: ``init(key) -> params`` of one member.
        shared: True if all members train on the same batches; False if each has its own, see ``StackedBatches``.
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
        self.make_loss_and_optimizer = make_loss_and_optimizer
        self.init = init
        self.shared = shared

        def run_member(hyperparameters: Hyperparameters, state: TrainState, batches: PyTree) -> TrainState:
            step = make_train_step(*make_loss_and_optimizer(hyperparameters))
            return jax.lax.scan(lambda state, batch: (step(state, batch)[0], None), state, batches)[0]

        def step_member(hyperparameters: Hyperparameters, state: TrainState, batch: PyTree, extra: Any) -> Any:
            return make_train_step(*make_loss_and_optimizer(hyperparameters))(state, batch, **extra)

        def evaluate_member(hyperparameters: Hyperparameters, params: PyTree, batch: PyTree) -> dict[str, Any]:
            loss, (_, metrics) = make_loss_and_optimizer(hyperparameters)[0](params, None, batch, None)
            return with_loss(metrics, loss)

        self._map_run = lru_cache(partial(place_and_map, run_member, (True, True, not shared)))
        self._map_step = partial(map_members, step_member, (True, True, not shared, False))
        self._map_evaluate_placed = lru_cache(partial(place_and_map, evaluate_member, (True, True, False)))
        self._map_evaluate = partial(map_members, evaluate_member, (True, True, False))

    def init_state(self, key: jax.Array, hyperparameters: Hyperparameters) -> PopulationState:
        """Returns the initial state of a population.

        Args:
            key: PRNG key; member k derives its parameters and its training key from ``fold_in(key, k)``.
            hyperparameters: arrays ``[K]`` by name, from ``grid(...)`` or ``sample_hyperparameters(...)``.
        Returns:
            state: the state of K members at step 0.
        Raises:
            ValueError: ``hyperparameters`` are empty, or their lengths differ.
        """
        columns = check_hyperparameters(hyperparameters)
        members = np.arange(len(next(iter(columns.values()))))
        return PopulationState(members, columns, self._init_members(key, columns))

    def run(self, state: PopulationState, batches: Batches, start: int, stop: int) -> PopulationState:
        """Trains all members from step ``start`` to step ``stop`` in one compiled call.

        Args:
            state: the state at step ``start``.
            batches: training batches indexed by step; stacked, see ``StackedBatches``, if ``shared`` is False.
            start: index of the first batch.
            stop: index after the last batch.
        Returns:
            state: the state at step ``stop``.
        """
        step_batches = (batch_at(batches, step) for step in range(start, stop))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *step_batches)
        if not self.shared:
            stacked = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), stacked)
        run = self._map_run(len(state.members))
        return state._replace(train_states=run(state.hyperparameters, state.train_states, stacked))

    def evaluate(self, state: PopulationState, batches: Batches) -> list[dict[str, float]]:
        """Computes the metrics of each member over one epoch.

        Args:
            state: the state of K members.
            batches: evaluation batches, indexed by step and shared by all members.
        Returns:
            rows: one dict per member with ``member`` (its index), its hyperparameters, ``steps`` and metrics. The
            metrics are NaN for a member whose training met NaN or infinity.
        """
        evaluate = self._map_evaluate_placed(len(state.members))
        params = state.train_states.params
        metrics = [evaluate(state.hyperparameters, params, batches[index]) for index in range(len(batches))]
        sums = jax.device_get(reduce(add, metrics))
        failed = np.asarray(state.train_states.failure.step) != NEVER
        rows = []
        for index, member in enumerate(state.members):
            row: dict[str, float] = {"member": int(member)}
            row |= {name: float(column[index]) for name, column in state.hyperparameters.items()}
            row["steps"] = int(state.train_states.step[index])
            member_metrics = values(jax.tree.map(lambda leaf, index=index: leaf[index], sums))
            rows.append(row | {name: math.nan if failed[index] else value for name, value in member_metrics.items()})
        return rows

    def make_step(self, hyperparameters: Hyperparameters) -> TrainStep:
        """Makes a training step of the whole population, so that ``fit`` can train, validate and checkpoint it.

        Call ``fit(step, None, batches, ...)``: members initialize their own parameters. Rows hold the mean over
        members, such as ``"loss"``, and the value of each member, such as ``"loss 0"`` and ``"loss 1"``. Validation
        keeps the parameters of all members from the step with the best mean.

        Args:
            hyperparameters: arrays ``[K]`` by name.
        Returns:
            step: a ``TrainStep`` over a ``TrainState`` whose arrays have a leading axis ``[K]``.
        Raises:
            ValueError: ``hyperparameters`` are empty, or their lengths differ.
        """
        columns = check_hyperparameters(hyperparameters)
        num_members = len(next(iter(columns.values())))

        def init(params: PyTree, key: jax.Array, carry: PyTree) -> TrainState:
            if params is not None or carry is not None:
                raise ValueError("params, carry: want None for a population, whose members initialize their own")
            return self._init_members(key, columns)

        def step(state: TrainState, batch: PyTree, **extra: Any) -> tuple[TrainState, dict[str, Any]]:
            state, metrics = self._map_step(num_members)(columns, state, batch, extra)
            return state, {name: PerMember(accumulator) for name, accumulator in metrics.items()}

        def loss_fn(params: PyTree, carry: PyTree, batch: PyTree, key: Any) -> tuple[jax.Array, tuple[PyTree, dict]]:
            metrics = self._map_evaluate(num_members)(columns, params, batch)
            member_metrics = {name: PerMember(accumulator) for name, accumulator in metrics.items()}
            return member_metrics["loss"].value(), (carry, member_metrics)

        return TrainStep(step, init, loss_fn)

    def _init_members(self, key: jax.Array, columns: Hyperparameters) -> TrainState:
        def init_member(hyperparameters: Hyperparameters, key: jax.Array) -> TrainState:
            init_key, train_key = jax.random.split(key)
            return init_state(self.init(init_key), self.make_loss_and_optimizer(hyperparameters)[1], train_key)

        members = jnp.arange(len(next(iter(columns.values()))))
        keys = jax.vmap(partial(jax.random.fold_in, key))(members)
        return jax.jit(jax.vmap(init_member), out_shardings=member_sharding(len(members)))(columns, keys)


def select_members(state: PopulationState, indices: Sequence[int]) -> PopulationState:
    """Returns a population state with only the selected members.

    Args:
        state: the state of K members.
        indices: positions along the axis ``[K]``, in the order of the result.
    Returns:
        state: the state of the selected members; its ``members`` keep their initial indices.
    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from lstm_jax import training
        >>> loss_fn = training.stateless(lambda params, batch, key: (jnp.mean((params - batch) ** 2), {}))
        >>> population = training.Population(lambda h: (loss_fn, optax.sgd(h["rate"])), lambda key: jnp.float32(1))
        >>> state = population.init_state(jax.random.key(0), training.grid(rate=[0.1, 0.2, 0.3]))
        >>> training.select_members(state, [2, 0]).members.tolist()
        [2, 0]
    """
    positions = np.asarray(indices)
    select = partial(jax.tree.map, lambda leaf: leaf[positions])
    return PopulationState(state.members[positions], select(state.hyperparameters), select(state.train_states))


def member_params(state: PopulationState, index: int) -> PyTree:
    """Returns the parameters of one member.

    Args:
        state: the state of K members.
        index: position of the member along the axis ``[K]``.
    Returns:
        params: the parameters, without the axis ``[K]``.
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
    """Converts hyperparameters to float32 arrays ``[K]``, after checking that their lengths agree.

    Raises:
        ValueError: ``hyperparameters`` are empty, or their lengths differ.
    """
    sizes = {name: len(np.atleast_1d(column)) for name, column in hyperparameters.items()}
    if not sizes or len(set(sizes.values())) != 1:
        raise ValueError(
            f"hyperparameters: got {sizes or 'none'}, want arrays of equal length, with one value per member"
        )
    return {name: jnp.atleast_1d(jnp.asarray(column, jnp.float32)) for name, column in hyperparameters.items()}
