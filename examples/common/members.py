"""Trains the members of a population one after another, to compare, and prints the best of them."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from tqdm import tqdm

from lstm_jax import training


def print_members(rows: Sequence[dict[str, float]], data: str) -> None:
    """Prints the learning rate, the dropout rate and the error of members."""
    print(f"{'member':>6} {'rate':>9} {'dropout':>8} {'error':>7}   of {data}")
    for row in rows:
        print(f"{row['member']:6.0f} {row['rate']:9.5f} {row['dropout']:8.2f} {row['error']:7.2%}")


def train_separately(
    build: Callable[[Any], Any], untrained: training.PopulationState, batches: Any, valid: Any, num_steps: int
) -> tuple[list[float], float]:
    """Trains the members of a population one by one, with one compiled step.

    Args:
        build: returns the loss and the optimizer of a member's hyperparameters.
        untrained: the members before their first step.
        batches: of the training part.
        valid: one batch of the validation part.
        num_steps: of each member.
    Returns:
        (errors, seconds): the validation error of each member, and the time of all, without compilation.
    """

    @partial(jax.jit, donate_argnums=1)
    def step(hyper: Any, state: training.TrainState, batch: Any) -> tuple[training.TrainState, Any]:
        """Updates a member once."""
        return training.make_train_step(*build(hyper))(state, batch)

    @jax.jit
    def error(hyper: Any, params: Any, batch: Any) -> jax.Array:
        """Returns a member's error on a batch."""
        return build(hyper)[0](params, None, batch, None)[1][1]["error"].value()

    errors, start, count = [], time.perf_counter(), len(untrained.members)
    for member in tqdm(untrained.members, unit="member", dynamic_ncols=True):
        columns = (untrained.hyperparameters, untrained.train_states)
        hyper, state = jax.tree.map(lambda leaf, member=member: leaf[member], columns)
        for number in range(num_steps):
            state, _ = step(hyper, state, batches[number])
        errors.append(float(error(hyper, state.params, valid[0])))
        start = time.perf_counter() if member == 0 else start  # the first one compiles
    return errors, (time.perf_counter() - start) * count / (count - 1)
