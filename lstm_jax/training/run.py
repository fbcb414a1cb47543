"""The state of a run, and how a checkpoint keeps it."""

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
    """All that changes while a run goes on; each function of the loop returns a new one."""

    step: int
    """batches taken"""
    state: TrainState
    sums: dict[str, Any] | None = None
    """accumulators of the steps since the last row; None right after a row"""
    position: bytes | None = None
    """where batches from an iterator stand"""
    best: Row | None = None
    """the row of the best validation"""
    best_params: PyTree = None
    """its parameters; None before the first validation"""
    stale_validations: int = 0
    """validations since the best one"""
    pending_validation: float = math.nan
    """the last validation, for the optimizer's next update; NaN if that has seen it"""
    unsaved: str | None = None
    """why the newest checkpoint could not be written"""


def make_advance(train_step: TrainStep) -> Callable[[RunState, LoadedBatch, float], RunState]:
    """Makes ``advance(run, loaded, progress) -> run``: a compiled step, which takes over the arrays of the run before.

    Args:
        train_step: ``train_step(state, batch, progress=, validation=) -> (state, metrics)``.
    Returns:
        advance: a function of the run, a ``LoadedBatch`` and the progress from 0 to 1.
    """

    @partial(jax.jit, donate_argnums=(0, 1))
    def compiled(
        state: TrainState, sums: PyTree, batch: PyTree, progress: jax.Array, validation: jax.Array
    ) -> tuple[TrainState, PyTree]:
        state, metrics = train_step(state, batch, progress=progress, validation=validation)
        return state, add(sums, metrics)

    shapes: PyTree = None

    def advance(run: RunState, loaded: LoadedBatch, progress: float) -> RunState:
        nonlocal shapes
        extra = {"progress": jnp.float32(progress), "validation": jnp.float32(run.pending_validation)}
        if shapes is None:
            shapes = jax.eval_shape(partial(train_step, **extra), run.state, loaded.batch)[1]
        sums = run.sums
        if sums is None:
            sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        state, sums = compiled(run.state, sums, loaded.batch, **extra)
        return run._replace(
            step=run.step + 1, state=state, sums=sums, position=loaded.position, pending_validation=math.nan
        )

    return advance


def end_row(run: RunState, batch: PyTree) -> tuple[RunState, Row]:
    """Returns the metrics since the last row, whose sums begin anew.

    Args:
        run: after a step.
        batch: of that step.
    Returns:
        (run, row): the row has ``step`` and the numbers of all metrics.
    Raises:
        FloatingPointError: a number was not finite.
    """
    check_finite_state(run.state, batch)
    assert run.sums is not None
    return run._replace(sums=None), {"step": run.step} | values(run.sums)


@contextmanager
def open_checkpoints(saving: Saving | None) -> Iterator[Checkpoints | None]:
    """Opens the folder of a run, which is new or goes on; None without ``saving``.

    Raises:
        CheckpointError: the folder holds a run that is not to be resumed.
    """
    if saving is None:
        yield None
        return
    checkpoints = Checkpoints(Path(saving.folder) / "checkpoints", keep=saving.keep)
    try:
        step = checkpoints.latest()
        if step is not None and not saving.resume:
            raise CheckpointError(
                f"{saving.folder}: holds a run at step {step}; go on with it by resume=True, or take another folder"
            )
        yield checkpoints
    finally:
        checkpoints.close()


def restore_run(
    run: RunState, checkpoints: Checkpoints | None, validated_params: Callable[[TrainState], PyTree]
) -> RunState:
    """Returns the run of the newest checkpoint; the one that is given where there is none.

    Args:
        run: at its start, with arrays in the structure and places of the checkpoint's.
        checkpoints: None without ``saving``.
        validated_params: the parameters of a state that a validation keeps.
    Returns:
        run: to go on with.
    Raises:
        CheckpointError: the checkpoint is that of another model.
    """
    if checkpoints is None or checkpoints.latest() is None:
        return run
    notes = checkpoints.read_notes()
    like = {"state": run.state}
    if notes["best"] is not None:
        like["best_params"] = validated_params(run.state)
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
    """Writes a checkpoint, unless the newest one is of this step; one that cannot be written is noted in ``unsaved``.

    State and best parameters are in one checkpoint, so that both are of one moment. Where several processes read
    batches from iterators, their positions are not kept.

    Args:
        run: after a step.
        checkpoints: None without ``saving``.
    Returns:
        run: with ``unsaved`` brought up to date.
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
    """Copies arrays, so that no donation takes the originals away."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)
