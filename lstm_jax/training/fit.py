"""The training loop ``fit``, with progress display, validation, checkpoints and a history of metrics."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax

from lstm_jax._core.structs import PyTree
from lstm_jax.training.batches import Batches
from lstm_jax.training.checkpoints import CheckpointError, Checkpoints, Saving
from lstm_jax.training.devices import Devices
from lstm_jax.training.interruption import catch_interruptions
from lstm_jax.training.loading import LoadedBatch, check_batches, load
from lstm_jax.training.loss import LossFn
from lstm_jax.training.loss_scaling import LossScaleOption
from lstm_jax.training.plan import Plan, check_plan
from lstm_jax.training.progress import Progress
from lstm_jax.training.records import Records, Row
from lstm_jax.training.run import (
    RunState,
    copy_arrays,
    end_row,
    make_advance,
    open_checkpoints,
    restore_run,
    save_run,
)
from lstm_jax.training.step import TrainState, TrainStep, make_train_step
from lstm_jax.training.validation import Validation, has_patience_left, make_evaluate, params_selector, validate


class FitResult(NamedTuple):
    """The result of ``fit``: parameters, final state, history, and why training stopped."""

    params: PyTree
    """parameters of the best validation, or the final parameters without validation"""
    state: TrainState
    """final training state"""
    history: list[Row]
    """rows of metrics, every ``log_every`` steps and at each validation, each checkpoint and the last step; a row has
    ``step``, the training metrics by name, and the validation metrics under ``valid <name>``"""
    best: Row | None
    """row of the best validation; None without validation"""
    stop_reason: str
    """``"steps"``, ``"minutes"``, ``"patience"``, ``"interrupted"``, or ``"batches"`` if an iterator is exhausted"""


class Outputs(NamedTuple):
    """The destinations of rows and checkpoints during a run."""

    records: Records
    progress: Progress
    checkpoints: Checkpoints | None
    callbacks: tuple[Callable[[Row, TrainState], None], ...]


def fit(
    loss_fn: LossFn | TrainStep,
    params: PyTree,
    batches: Batches | Iterable[PyTree],
    optimizer: optax.GradientTransformation | None = None,
    *,
    steps: int,
    key: jax.Array,
    carry: PyTree = None,
    minutes: float | None = None,
    validation: Validation | None = None,
    saving: Saving | None = None,
    log_every: int = 10,
    callbacks: Sequence[Callable[[Row, TrainState], None]] = (),
    devices: Devices | None = None,
    loss_scale: LossScaleOption = 1.0,
    progress_bar: bool = True,
) -> FitResult:
    """Trains parameters until the step limit, the time limit, early stopping or Ctrl-C.

    With ``Saving(folder, resume=True)`` a killed run continues from its newest checkpoint. On CPU its final parameters
    are bitwise equal to those of an uninterrupted run. The time limit restarts with each call.

    Args:
        loss_fn: ``loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))``, where ``metrics`` is a dict of
            accumulators such as ``metrics.mean(...)``; or ``loss(params, batch, key) -> (loss, metrics)`` decorated
            with ``stateless``; or a ``TrainStep``, which contains its loss and optimizer.
        params: initial parameters, any pytree of arrays; never donated. None for a population.
        batches: indexable batches such as ``Shuffled``, ``Stream``, ``Bucketed`` or a list; or a loader or generator.
        optimizer: an Optax optimizer. Its update receives ``progress``, from 0 to 1, and ``validation``, the metric
            right after a validation and NaN at other steps. None for a ``TrainStep``.
        steps: total number of steps, including those before a resumption; each step takes one batch.
        key: PRNG key; each step uses ``fold_in(key, step)``. A resumed run uses the key of its checkpoint.
        carry: carry of the first batch; None for a stateless loss.
        minutes: time limit, which ``progress`` also takes into account; None means no limit.
        validation: held-out data and the metric to select on; None returns the final parameters.
        saving: folder and interval of checkpoints, and whether to resume; None writes no files.
        log_every: steps between rows of the history; each row also checks that loss and parameters are finite.
        callbacks: functions ``callback(row, state)``, called after each row; the next step donates the arrays of
            ``state``.
        devices: device mesh and sharding of batches; None means one device. The loss of a ``TrainStep`` must already be
            ``devices.parallel(loss_fn)``.
        loss_scale: loss scaling for float16 parameters, as in ``make_train_step``.
        progress_bar: whether to show progress: a bar on a terminal, plain lines elsewhere.
    Returns:
        result: parameters, final state, history, the row of the best validation, and why training stopped.
    Raises:
        ValueError: an argument is invalid; the message names it.
        FloatingPointError: the loss or a parameter is not finite; the message names the step and the first non-finite
            array. Checkpoints contain only finite states.
        CheckpointError: the folder contains another run, or a checkpoint or the history could not be written.
    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, optax
        >>> from lstm_jax import training
        >>> loss_fn = training.stateless(lambda params, batch, key: (jnp.mean((params - batch) ** 2), {}))
        >>> batches = training.Shuffled(np.full(64, 3.0, np.float32), 16)
        >>> result = training.fit(
        ...     loss_fn, jnp.float32(0), batches, optax.sgd(0.2), steps=40, key=jax.random.key(0), progress_bar=False
        ... )
        >>> round(float(result.params), 3), result.stop_reason, result.history[-1]["step"]
        (3.0, 'steps', 40)
    """
    check_plan(steps, log_every, minutes, validation, saving)
    check_batches(batches)
    train_step = _as_train_step(loss_fn, optimizer, loss_scale, devices)
    to_device = jax.device_put if devices is None else devices.to_device
    state = copy_arrays(train_step.init(params, key, carry))
    run = RunState(0, state if devices is None else devices.place_state(state))
    with (
        open_checkpoints(saving) as checkpoints,
        catch_interruptions(include_sigterm=saving is not None) as is_interrupted,
    ):
        run = restore_run(run, checkpoints, params_selector(validation))
        seconds = math.inf if minutes is None else 60 * minutes
        plan = Plan(steps, log_every, validation, saving, seconds, time.monotonic(), is_interrupted)
        with (
            closing(load(batches, run.step, steps, to_device, position=run.position)) as loaded_batches,
            _open_records(saving, run.step) as records,
            _open_progress(plan, run.step, progress_bar) as progress,
        ):
            outputs = Outputs(records, progress, checkpoints, tuple(callbacks))
            advance = make_advance(train_step)
            evaluate = make_evaluate(train_step.loss_fn, to_device)
            run, stop_reason = _run_steps(run, loaded_batches, advance, evaluate, plan, outputs)
            run = save_run(run, checkpoints)
    params = run.state.params if run.best is None else run.best_params
    result = FitResult(params, run.state, records.rows, run.best, stop_reason)
    if run.unsaved or records.problem:
        raise CheckpointError(run.unsaved or records.problem or "", result)
    return result


def _run_steps(
    run: RunState,
    loaded_batches: Iterable[LoadedBatch],
    advance: Callable[[RunState, LoadedBatch, float], RunState],
    evaluate: Callable[..., dict[str, Any]],
    plan: Plan,
    outputs: Outputs,
) -> tuple[RunState, str]:
    """Runs training steps until a stop condition holds; returns the run and the reason."""
    if not has_patience_left(run, plan.validation):
        return run, "patience"
    for loaded in loaded_batches:
        progress = plan.progress(run.step + 1)
        run = advance(run, loaded, progress)
        outputs.progress.advance(run.step)
        stop_reason = plan.stop_reason(run.step, progress, not loaded.is_last)
        due = plan.due(run.step, stop_reason is not None)
        if due.row:
            run, row = end_row(run, loaded.batch)
            if due.validation is not None:
                run, row = validate(run, row, due.validation, evaluate)
                stop_reason = stop_reason or (None if has_patience_left(run, due.validation) else "patience")
            _write_row(outputs, row, run.state, is_last=stop_reason is not None)
        if due.checkpoint:
            run = save_run(run, outputs.checkpoints)
            if run.unsaved is not None:
                outputs.progress.write(run.unsaved)
        if stop_reason is not None:
            return run, stop_reason
    return run, "steps" if run.step >= plan.steps else "batches"


def _write_row(outputs: Outputs, row: Row, state: TrainState, *, is_last: bool) -> None:
    """Writes a row to the history and the progress display, and calls the callbacks."""
    outputs.records.write(row)
    outputs.progress.update(row, is_last=is_last)
    for callback in outputs.callbacks:
        callback(row, state)


def _as_train_step(
    loss_fn: LossFn | TrainStep,
    optimizer: optax.GradientTransformation | None,
    loss_scale: LossScaleOption,
    devices: Devices | None,
) -> TrainStep:
    """Returns a ``TrainStep`` unchanged, or makes one from a loss and an optimizer."""
    if isinstance(loss_fn, TrainStep):
        if optimizer is not None or loss_scale != 1:
            name = "optimizer" if optimizer is not None else "loss_scale"
            raise ValueError(f"{name}: got one beside a step, want it inside the TrainStep")
        return loss_fn
    if optimizer is None:
        raise ValueError("optimizer: got None, want an Optax optimizer, such as training.adam(1e-3)")
    parallel_loss_fn = loss_fn if devices is None else devices.parallel(loss_fn)
    return make_train_step(parallel_loss_fn, optimizer, loss_scale=loss_scale)


def _open_records(saving: Saving | None, step: int) -> Records:
    """Opens the history; only the first process writes it to disk."""
    if saving is None or jax.process_index() > 0:
        return Records(None)
    return Records(Path(saving.folder), upto=step, tensorboard=saving.tensorboard)


def _open_progress(plan: Plan, step: int, progress_bar: bool) -> Progress:
    """Opens the progress display of loss and validation metric; only the first process shows it."""
    names = ("loss",) if plan.validation is None else ("loss", f"valid {plan.validation.metric.removeprefix('-')}")
    is_enabled = progress_bar and jax.process_index() == 0
    return Progress(plan.steps, step, enabled=is_enabled, names=names)
