"""The loop: batches into steps, with progress, validation, checkpoints and records."""

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
from lstm_jax.training.validation import Validation, has_patience_left, make_evaluate, validate, validated_params


class FitResult(NamedTuple):
    """The result of training."""

    params: PyTree
    """the best by validation, or the last without one"""
    state: TrainState
    """the last one, to go on with"""
    history: list[Row]
    """a row every ``log_every`` steps and at each validation: ``step``, metrics, and its ``valid ...`` ones"""
    best: Row | None
    """the row of ``params``; None without validation"""
    stop_reason: str
    """``"steps"``, ``"minutes"``, ``"patience"``, ``"interrupted"``, or ``"batches"`` where an iterator ran out"""


class Outputs(NamedTuple):
    """Where rows and checkpoints go."""

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
    """Trains for some steps, or until the minutes or the patience are over, or Ctrl-C.

    With ``saving`` a run that dies, by kill -9 too, goes on from its newest checkpoint with ``resume=True`` and ends
    with the parameters that it would have had, to the bit on CPU; but the minutes begin anew.

    Args:
        loss_fn: ``loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))``, metrics a dict of accumulators such
            as ``metrics.mean(...)``; or ``loss(params, batch, key) -> (loss, metrics)`` under ``stateless``. Instead of
            a loss a ``TrainStep``, which holds its loss and optimizer: that of ``make_tbptt_step``,
            ``make_train_step`` or ``Population.make_step``.
        params: any pytree of arrays, which is not changed; None for a population.
        batches: by number, ``Shuffled``, ``Stream``, ``Bucketed``, a list; or a loader or generator, see ``loading``.
        optimizer: of Optax; its updates get ``progress`` from 0 to 1 and, after a validation, ``validation``. None for
            a ``TrainStep``.
        steps: batches to take in all, those before a resumption included.
        key: of all randomness; a step uses ``fold_in(key, step)``. A resumed run goes on with the key it began with.
        carry: what the first batch starts from; None for a loss that carries nothing.
        minutes: after which training ends, and by which ``progress`` goes; None means no limit.
        validation: what is held out; None means that the last parameters are the result.
        saving: where checkpoints and history are kept; None means nowhere.
        log_every: steps between rows of the history, after which all numbers must be finite.
        callbacks: each is called with every row and the state, whose arrays last until the next step.
        devices: the mesh and where rows lie; None means one device. A ``TrainStep`` holds the loss that
            ``devices.parallel`` makes.
        loss_scale: see ``make_train_step``.
        progress_bar: whether to show progress: a bar on a terminal, plain lines elsewhere.
    Returns:
        result: parameters, last state, history, the best row, and why training ended.
    Raises:
        ValueError: an argument is wrong; the message names it.
        FloatingPointError: a loss or parameter is not finite; names the step and the first leaf. The checkpoints hold
            finite states only.
        CheckpointError: the folder holds another run or could not be written.
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
        run = restore_run(run, checkpoints, validated_params(validation))
        seconds = math.inf if minutes is None else 60 * minutes
        plan = Plan(steps, log_every, validation, saving, seconds, time.monotonic(), is_interrupted)
        with (
            closing(load(batches, run.step, steps, to_device, position=run.position)) as loaded_batches,
            _open_records(saving, run.step) as records,
            _open_progress(plan, run.step, progress_bar) as progress,
        ):
            outputs = Outputs(records, progress, checkpoints, tuple(callbacks))
            advance, evaluate = make_advance(train_step), make_evaluate(train_step.loss_fn, to_device)
            run, stop_reason = _loop(run, loaded_batches, advance, evaluate, plan, outputs)
            run = save_run(run, checkpoints)
    params = run.state.params if run.best is None else run.best_params
    result = FitResult(params, run.state, records.rows, run.best, stop_reason)
    if run.unsaved or records.problem:
        raise CheckpointError(run.unsaved or records.problem or "", result)
    return result


def _loop(
    run: RunState,
    loaded_batches: Iterable[LoadedBatch],
    advance: Callable[[RunState, LoadedBatch, float], RunState],
    evaluate: Callable[..., dict[str, Any]],
    plan: Plan,
    outputs: Outputs,
) -> tuple[RunState, str]:
    """Takes steps until something ends them, and says what."""
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
            if due.validation:
                run, row = validate(run, row, plan.validation, evaluate)
                stop_reason = stop_reason or (None if has_patience_left(run, plan.validation) else "patience")
            _write_row(outputs, row, run.state, is_last=stop_reason is not None)
        if due.checkpoint:
            run = save_run(run, outputs.checkpoints)
            if run.unsaved is not None:
                outputs.progress.write(run.unsaved)
        if stop_reason is not None:
            return run, stop_reason
    return run, "steps" if run.step >= plan.steps else "batches"


def _write_row(outputs: Outputs, row: Row, state: TrainState, *, is_last: bool) -> None:
    """A row to the history, to what is shown, and to the callbacks."""
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
    """A step as it is, or the step of a loss."""
    if isinstance(loss_fn, TrainStep):
        if optimizer is not None or loss_scale != 1:
            name = "optimizer" if optimizer is not None else "loss_scale"
            raise ValueError(f"{name}: got one beside a step, want it in the step, which holds its own")
        return loss_fn
    if optimizer is None:
        raise ValueError("optimizer: got None, want one of Optax, such as training.adam(1e-3)")
    loss_fn = loss_fn if devices is None else devices.parallel(loss_fn)
    return make_train_step(loss_fn, optimizer, loss_scale=loss_scale)


def _open_records(saving: Saving | None, step: int) -> Records:
    """The history, which the first process alone writes."""
    if saving is None or jax.process_index() > 0:
        return Records(None)
    return Records(Path(saving.folder), upto=step, tensorboard=saving.tensorboard)


def _open_progress(plan: Plan, step: int, progress_bar: bool) -> Progress:
    """What the first process alone shows: the loss, and the metric of the validation."""
    names = ("loss",) if plan.validation is None else ("loss", f"valid {plan.validation.metric.removeprefix('-')}")
    return Progress(plan.steps, step, enabled=progress_bar and jax.process_index() == 0, names=names)
