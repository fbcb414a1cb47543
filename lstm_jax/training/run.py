"""The state of a run, its compiled training step, and its checkpoints."""

import base64
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import PyTree
from lstm_jax.training.checkpoints import CheckpointError, Checkpoints, Saving
from lstm_jax.training.failures import check_finite_state
from lstm_jax.training.loading import LoadedBatch
from lstm_jax.training.metrics import add, values
from lstm_jax.training.records import Row
from lstm_jax.training.step import TrainState, TrainStep


class RunState(NamedTuple):
    """Everything that changes during a run; functions of the loop return an updated copy."""

    step: int
    """number of batches processed"""
    state: TrainState
    sums: dict[str, Any] | None = None
    """metrics accumulated since the last row; None right after a row"""
    position: bytes | None = None
    """pickled state of a loader or iterator after the last batch; None if it has no state"""
    best: Row | None = None
    """row of the best validation; None before the first validation"""
    best_params: PyTree = None
    """parameters of the best validation; None before the first validation"""
    stale_validations: int = 0
    """number of validations since the best one"""
    pending_validation: float = math.nan
    """value of a new validation for the next optimizer update, smaller is better; NaN if there is none"""
    unsaved: str | None = None
    """error message if the newest checkpoint could not be written"""


def make_advance(train_step: TrainStep) -> Callable[[RunState, LoadedBatch, float], RunState]:
    """Makes ``advance(run, loaded, progress) -> run``, a compiled step that donates the arrays of the previous run.

    Args:
        train_step: ``train_step(state, batch, progress=, validation=) -> (state, metrics)``.
    Returns:
        advance: function of a ``RunState``, a ``LoadedBatch`` and the progress from 0 to 1.
    """

    @partial(jax.jit, donate_argnums=(0, 1))
    def compiled_step(
        state: TrainState, sums: PyTree, batch: PyTree, progress: jax.Array, validation: jax.Array
    ) -> tuple[TrainState, PyTree]:
        new_state, metrics = train_step(state, batch, progress=progress, validation=validation)
        return new_state, add(sums, metrics)

    metric_shapes: PyTree = None

    def advance(run: RunState, loaded: LoadedBatch, progress: float) -> RunState:
        nonlocal metric_shapes
        optimizer_args = {"progress": jnp.float32(progress), "validation": jnp.float32(run.pending_validation)}
        if metric_shapes is None:
            metric_shapes = jax.eval_shape(partial(train_step, **optimizer_args), run.state, loaded.batch)[1]
        sums = run.sums
        if sums is None:
            sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), metric_shapes)
        state, sums = compiled_step(run.state, sums, loaded.batch, **optimizer_args)
        return run._replace(
            step=run.step + 1, state=state, sums=sums, position=loaded.position, pending_validation=math.nan
        )

    return advance


def end_row(run: RunState, batch: PyTree) -> tuple[RunState, Row]:
    """Returns a row with the metrics since the last row, and resets their sums.

    Args:
        run: the run state after the current step.
        batch: the batch of the current step.
    Returns:
        (run, row): the run with empty sums, and a row with ``step`` and the value of each metric.
    Raises:
        FloatingPointError: the loss or a parameter was not finite since the last row.
    """
    check_finite_state(run.state, batch)
    assert run.sums is not None
    return run._replace(sums=None), {"step": run.step} | values(run.sums)


@contextmanager
def open_checkpoints(saving: Saving | None) -> Iterator[Checkpoints | None]:
    """Opens the checkpoints of a new or resumed run; yields None without ``saving``.

    Raises:
        CheckpointError: the folder contains a run and ``saving.resume`` is False.
    """
    if saving is None:
        yield None
        return
    checkpoints = Checkpoints(Path(saving.folder) / "checkpoints", keep=saving.keep)
    try:
        step = checkpoints.latest()
        if step is not None and not saving.resume:
            raise CheckpointError(
                f"{saving.folder}: holds a run at step {step}; continue it with resume=True, or choose another folder"
            )
        yield checkpoints
    finally:
        checkpoints.close()


def restore_run(
    run: RunState, checkpoints: Checkpoints | None, params_selector: Callable[[TrainState], PyTree]
) -> RunState:
    """Restores a run from the newest checkpoint; returns ``run`` itself if there is no checkpoint.

    Args:
        run: the initial run state, whose arrays give the structure and sharding of the restored ones.
        checkpoints: the checkpoints of the run; None without ``saving``.
        params_selector: function that selects the validated parameters from a ``TrainState``.
    Returns:
        run: the restored run state, or the initial one.
    Raises:
        CheckpointError: the checkpoint belongs to another model.
    """
    if checkpoints is None or checkpoints.latest() is None:
        return run
    notes = checkpoints.read_notes()
    like = {"state": run.state}
    if notes["best"] is not None:
        like["best_params"] = params_selector(run.state)
    step, tree, _ = checkpoints.restore(like)
    return RunState(
        step,
        tree["state"],
        position=None if notes["position"] is None else base64.b64decode(notes["position"]),
        best=notes["best"],
        best_params=tree.get("best_params"),
        stale_validations=notes["stale_validations"],
        pending_validation=float(notes["pending_validation"]),
    )


def save_run(run: RunState, checkpoints: Checkpoints | None) -> RunState:
    """Saves a checkpoint of the run unless the newest checkpoint already has its step.

    The training state and the best parameters share one checkpoint, so that they always match. With several processes
    the positions of iterators are not saved. A failure is recorded in ``unsaved`` instead of raised.

    Args:
        run: the run state after the current step.
        checkpoints: the checkpoints of the run; None without ``saving``.
    Returns:
        run: the run with ``unsaved`` updated: an error message, or None after a successful save.
    """
    if checkpoints is None or checkpoints.latest() == run.step:
        return run
    tree = {"state": run.state}
    if run.best is not None:
        tree["best_params"] = run.best_params
    has_position = run.position is not None and jax.process_count() == 1
    notes = {
        "best": run.best,
        "stale_validations": run.stale_validations,
        "pending_validation": str(run.pending_validation),
        "position": base64.b64encode(run.position).decode() if run.position and has_position else None,
    }
    try:
        checkpoints.save(run.step, tree, notes)
    except CheckpointError as error:
        return run._replace(unsaved=str(error))
    return run._replace(unsaved=None)


def copy_arrays(tree: PyTree) -> PyTree:
    """Copies arrays, so that the copy stays valid when the original is donated, and vice versa."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)
