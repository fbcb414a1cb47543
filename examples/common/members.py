"""Trains the members of a population one after another, for comparison, and prints their table."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from tqdm import tqdm

from lstm_jax import training


def print_members(rows: Sequence[dict[str, float]], data: str) -> None:
    """Prints the learning rate, dropout rate and error of members.

    Args:
        rows: the members, with "member", "rate", "dropout" and "error".
        data: describes the data of the error.
    """
    print(f"{'member':>6} {'rate':>9} {'dropout':>8} {'error':>7}   of {data}")
    for row in rows:
        print(f"{row['member']:6.0f} {row['rate']:9.5f} {row['dropout']:8.2f} {row['error']:7.2%}")


def train_separately(
    build: Callable[[Any], Any], untrained: training.PopulationState, batches: Any, valid: Any, num_steps: int
) -> tuple[list[float], float]:
    """Trains the members of a population one by one, with one compiled step.

    Args:
        build: ``build(hyperparameters) -> (loss, optimizer)``.
        untrained: the population before its first step.
        batches: training batches.
        valid: the validation part in one batch, at index 0.
        num_steps: training steps per member.
    Returns:
        (errors, seconds): validation error of each member, and training time of all, compilation excluded.
    """

    @partial(jax.jit, donate_argnums=1)
    def step(hyper: Any, state: training.TrainState, batch: Any) -> tuple[training.TrainState, Any]:
        """Takes one training step of a member."""
        return training.make_train_step(*build(hyper))(state, batch)

    @jax.jit
    def error(hyper: Any, params: Any, batch: Any) -> jax.Array:
        """Returns a member's error on a batch."""
        return build(hyper)[0](params, None, batch, None)[1][1]["error"].value()

    errors = []
    num_members = len(untrained.members)
    stacked = (untrained.hyperparameters, untrained.train_states)
    start = time.perf_counter()
    for member in tqdm(untrained.members, unit="member", dynamic_ncols=True):
        hyper, state = jax.tree.map(lambda leaf, member=member: leaf[member], stacked)
        for number in range(num_steps):
            state, _ = step(hyper, state, batches[number])
        errors.append(float(error(hyper, state.params, valid[0])))
        start = time.perf_counter() if member == 0 else start  # the first member compiles
    return errors, (time.perf_counter() - start) * num_members / (num_members - 1)
