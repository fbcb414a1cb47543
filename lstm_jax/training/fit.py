"""The loop: batches into steps, with progress, validation, checkpoints and records."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lstm_jax._core.checks import check_type
from lstm_jax._core.structs import PyTree
from lstm_jax.training.checkpoints import CheckpointError
from lstm_jax.training.data import Batches, prefetch
from lstm_jax.training.devices import Devices
from lstm_jax.training.metrics import add
from lstm_jax.training.records import Records, Row
from lstm_jax.training.run import Run, Saving, Validation, copy_arrays
from lstm_jax.training.step import Loss, TrainState, init_state, make_train_step


class FitResult(NamedTuple):
    """What training gives."""

    params: PyTree
    """the best by validation, or the last"""
    state: TrainState
    """the last, to go on with"""
    history: list[Row]
    """``step`` and metrics; those of validation are called ``valid ...``"""
    best: Row | None
    """the validation that ``params`` had"""
    ended: str
    """"steps", "minutes", "patience" or "interrupted\""""


def fit(
    loss_fn: Loss,
    params: PyTree,
    batches: Batches,
    optimizer: optax.GradientTransformation,
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
    loss_scale: float = 1.0,
    progress_bar: bool = True,
) -> FitResult:
    """Trains for so many steps, or until the minutes or the patience are over, or Ctrl-C.

    With ``saving`` a run that dies, by kill -9 too, goes on from its newest checkpoint with ``resume=True`` and ends
    with the parameters that it would have had, to the bit on CPU; but the minutes begin anew.

    Args:
        loss_fn: ``loss(params, carry, batch, key) -> (loss, (carry, metrics))``, metrics a dict of accumulators such as
            ``metrics.mean(...)``; or ``loss(params, batch, key) -> (loss, metrics)`` under ``stateless``.
        batches: ``batches[step]`` and ``len(batches)``, the steps in an epoch: ``Shuffled``, ``Stream``, ``Bucketed``.
        steps: in all, those before a resumption included.
        key: of all randomness; a step uses ``fold_in(key, step)``. A resumed run goes on with the key it began with.
        carry: what the first batch starts from.
        report: steps between rows of the history, and looks at whether all numbers are finite.
        callbacks: each called with every row and the state, whose arrays last until the next step.
        devices: None means one; see ``devices.py``.
        loss_scale: see ``make_train_step``.
        bar: whether to show progress.
    Raises:
        FloatingPointError: a loss or parameter is not finite; names the step and the first leaf. The checkpoints hold
            finite states only.
        CheckpointError: the folder holds another run or could not be written.
    """
    if steps < 0 or log_every < 1:
        raise ValueError(f"steps, report: got {steps} and {log_every}, want at least 0 and 1")
    check_type("saving", saving, Saving | None, "for example training.Saving(folder)")
    check_type("validation", validation, Validation | None, "for example training.Validation(batches, every=100)")
    if len(batches) == 0:
        raise ValueError("batches: got none in an epoch, want at least one")
    state = copy_arrays(init_state(params, optimizer, key, carry))
    if devices is not None:
        loss_fn, state = devices.parallel(loss_fn), devices.place(state)
    put = jax.device_put if devices is None else devices.put
    progress_bar = progress_bar and jax.process_index() == 0
    run = Run(loss_fn, state, validation, saving, put)
    clock = Clock(steps, time.monotonic(), math.inf if minutes is None else 60 * minutes)
    with Records(run.folder, upto=int(run.state.step), tensorboard=run.tensorboard) as records, interrupts() as stop:
        run.records, run.callbacks = records, tuple(callbacks)
        ended = _loop(run, _advance(loss_fn, optimizer, loss_scale), batches, clock, log_every, put, progress_bar, stop)
        run.close()
    kept = run.state.params if run.best is None else run.best_params
    fitted = FitResult(kept, run.state, records.rows, run.best, ended)
    if run.unsaved is not None:
        raise CheckpointError(run.unsaved, fitted)
    return fitted


class Clock(NamedTuple):
    """How far a run is."""

    steps: int
    start: float
    seconds: float

    def progress(self, number: int) -> float:
        """The share of the steps or of the time, whichever is further, at most 1."""
        share = number / self.steps if self.steps else 1.0
        return min(1.0, max(share, (time.monotonic() - self.start) / self.seconds))


def _loop(
    run: Run,
    advance: Callable[..., tuple[TrainState, PyTree]],
    batches: Batches,
    clock: Clock,
    report: int,
    put: Callable[[PyTree], PyTree],
    bar: bool,
    stop: threading.Event,
) -> str:
    """Steps until something ends them; says what."""
    from tqdm import tqdm

    start, ended = int(run.state.step), "steps"
    if not run.has_patience_left():
        return "patience"
    with tqdm(total=clock.steps, initial=start, unit="step", disable=not bar, dynamic_ncols=True) as shown:
        for number, batch in enumerate(prefetch(batches, start, clock.steps, put), start + 1):
            progress = clock.progress(number)
            run.state, run.sums = advance(run.state, run.sums, batch, progress, run.pending_validation)
            run.pending_validation = math.nan
            shown.update()
            if progress >= 1 and number < clock.steps:
                ended = "minutes"
            elif stop.is_set():
                ended = "interrupted"
            last = number == clock.steps or ended != "steps"
            if _report(run, number, batch, last, report, shown) or last:
                return "patience" if ended == "steps" and number < clock.steps else ended
    return ended


def _report(run: Run, number: int, batch: PyTree, last: bool, report: int, shown: Any) -> bool:
    """Rows, validation and checkpoint where they are due; whether the patience is over."""
    validation, saving = run.validation, run.saving
    validates = validation is not None and (last or number % validation.every == 0)
    saves = saving is not None and (last or number % saving.every == 0)
    if last or validates or saves or number % report == 0:
        row = run.report(number, batch)
        if validates:
            row = row | run.validate(number)
        shows = ("loss", validation and f"valid {validation.metric.removeprefix('-')}")
        names = [name for name in shows if name in row]
        shown.set_postfix_str(", ".join(f"{name} {row[name]:.4g}" for name in names))
    if saves or not run.has_patience_left():
        run.save(number)
        if run.unsaved is not None:
            shown.write(run.unsaved)
    return not run.has_patience_left()


def _advance(
    loss_fn: Loss, optimizer: optax.GradientTransformation, loss_scale: float
) -> Callable[..., tuple[TrainState, PyTree]]:
    """``advance(state, sums, batch, progress, validation) -> (state, sums)``, taking over its first two arguments."""
    step = make_train_step(loss_fn, optimizer, loss_scale=loss_scale)

    @partial(jax.jit, donate_argnums=(0, 1))
    def compiled(
        state: TrainState, sums: PyTree, batch: PyTree, progress: jax.Array, validation: jax.Array
    ) -> tuple[TrainState, PyTree]:
        state, metrics = step(state, batch, progress=progress, validation=validation)
        return state, add(sums, metrics)

    shapes: PyTree = None

    def advance(
        state: TrainState, sums: PyTree, batch: PyTree, progress: float, validation: float
    ) -> tuple[TrainState, PyTree]:
        nonlocal shapes
        extra = {"progress": jnp.float32(progress), "validation": jnp.float32(validation)}
        if shapes is None:
            shapes = jax.eval_shape(partial(step, **extra), state, batch)[1]
        if sums is None:
            sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return compiled(state, sums, batch, **extra)

    return advance


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """The first Ctrl-C sets the event, so that the step at hand ends; a second one interrupts as usual.

    In another thread than the main one signals cannot be caught and the event stays unset.
    """
    event = threading.Event()

    def on_signal(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
