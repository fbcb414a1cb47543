"""What changes while a run goes on: its state, its best, its records and checkpoints."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import PyTree
from lstm_jax.training.checkpoints import CheckpointError, Checkpoints
from lstm_jax.training.data import Batches
from lstm_jax.training.metrics import add, rank_value, values
from lstm_jax.training.records import Records, Row
from lstm_jax.training.step import NEVER, Loss, TrainState, describe, with_loss


class Validation(NamedTuple):
    """What is held out, and what follows from it."""

    batches: Batches
    """one epoch is read, from its start each time"""
    every: int
    """steps between validations"""
    metric: str = "loss"
    """what is best: the smallest; with - in front, ``"-accuracy"``, the largest"""
    patience: int | None = None
    """validations without a new best, after which training stops; None means it goes on"""
    carry: PyTree = None
    """before the first batch"""
    params: Callable[[TrainState], PyTree] = lambda state: state.params
    """the parameters that are validated and kept, such as an average"""


class Saving(NamedTuple):
    """Where a run is kept."""

    folder: Path | str
    every: int = 500
    """steps between checkpoints"""
    resume: bool = False
    """whether to go on from the newest checkpoint, if there is one"""
    keep: int = 2
    """checkpoints"""
    tensorboard: bool = False


class Run:
    """What changes while a run goes on."""

    def __init__(
        self,
        loss_fn: Loss,
        state: TrainState,
        validation: Validation | None,
        saving: Saving | None,
        put: Callable[[PyTree], PyTree] = jax.device_put,
    ) -> None:
        self.state, self.validation, self.saving = state, validation, saving
        self.folder = None if saving is None or jax.process_index() else Path(saving.folder)
        self.tensorboard = saving is not None and saving.tensorboard
        self.sums: PyTree = None
        self.best: Row | None = None
        self.best_params = copy_arrays(state.params if validation is None else validation.params(state))
        self.stale_validations = 0
        self.pending_validation = math.nan
        self.unsaved: str | None = None
        self.records = Records(None)
        self.callbacks: tuple[Callable[[Row, TrainState], None], ...] = ()
        self.evaluate = make_evaluate(loss_fn, put)
        self.checkpoints = None if saving is None else self._open(saving)

    def _open(self, saving: Saving) -> Checkpoints:
        checkpoints = Checkpoints(Path(saving.folder) / "checkpoints", keep=saving.keep)
        step = checkpoints.latest()
        if step is not None and not saving.resume:
            raise CheckpointError(
                f"{saving.folder}: holds a run at step {step}; go on with it by resume=True, or take another folder"
            )
        if step is not None:
            restored = checkpoints.restore(self._tree())
            self.state, self.best_params = restored.tree["state"], restored.tree["best"]
            self.best, self.stale_validations = restored.notes["best"], restored.notes["worse"]
            self.pending_validation = float(restored.notes["fresh"])
        return checkpoints

    def _tree(self) -> PyTree:
        """What a checkpoint holds; the best parameters are in it so that both are of one moment."""
        return {"state": self.state, "best": self.best_params}

    def has_patience_left(self) -> bool:
        """Whether a new best may still come in time."""
        patience = None if self.validation is None else self.validation.patience
        return patience is None or self.stale_validations < patience

    def write(self, row: Row) -> None:
        """A row to the records and the callbacks."""
        self.records.write(row)
        for callback in self.callbacks:
            callback(row, self.state)

    def report(self, number: int, batch: PyTree) -> Row:
        """The metrics since the last report; raises if a number was not finite."""
        failure = jax.device_get(self.state.failure)
        if failure.step != NEVER:
            raise FloatingPointError(describe(failure, batch, self.state.carry, self.state.params))
        row = {"step": number} | values(self.sums)
        self.sums = None
        self.write(row)
        return row

    def validate(self, number: int) -> Row:
        """One look at what is held out; remembers the best."""
        assert self.validation is not None
        params = self.validation.params(self.state)
        found = self.evaluate(params, self.validation.batches, self.validation.carry)
        row = {"step": number} | {f"valid {name}": value for name, value in found.items()}
        metric = self.validation.metric
        self.pending_validation = rank_value(row, metric)
        self.stale_validations += 1
        if self.best is None or self.pending_validation < rank_value(self.best, metric):
            self.best, self.stale_validations = row, 0
            self.best_params = copy_arrays(params)
        self.write(row)
        return row

    def save(self, number: int) -> None:
        """A checkpoint; one that cannot be written is remembered, and the run goes on."""
        if self.checkpoints is None or self.checkpoints.latest() == number:
            return
        try:
            notes = {"best": self.best, "worse": self.stale_validations, "fresh": str(self.pending_validation)}
            self.checkpoints.save(number, self._tree(), notes)
            self.unsaved = None
        except CheckpointError as error:
            self.unsaved = str(error)

    def close(self) -> None:
        """The last checkpoint."""
        self.save(int(self.state.step))
        self.unsaved = self.unsaved or self.records.trouble
        if self.checkpoints is not None:
            self.checkpoints.close()


def make_evaluate(loss_fn: Loss, put: Callable[[PyTree], PyTree] = jax.device_put) -> Callable[..., dict[str, float]]:
    """``evaluate(params, batches, carry=None) -> metrics``: over one epoch, without a key."""

    @jax.jit
    def look(params: PyTree, carry: PyTree, batch: PyTree) -> tuple[PyTree, dict[str, Any]]:
        loss, (carry, metrics) = loss_fn(params, carry, batch, None)
        return carry, with_loss(metrics, loss)

    def evaluate(params: PyTree, batches: Batches, carry: PyTree = None) -> dict[str, float]:
        sums = None
        for number in range(len(batches)):
            carry, metrics = look(params, carry, put(batches[number]))
            sums = metrics if sums is None else add(sums, metrics)
        if sums is None:
            raise ValueError("batches: got none to evaluate, want at least one")
        return values(sums)

    return evaluate


def copy_arrays(tree: PyTree) -> PyTree:
    """Arrays of its own, which no donation takes away."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)
