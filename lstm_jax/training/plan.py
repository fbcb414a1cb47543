"""The schedule of a run: when it writes rows, validates, saves checkpoints and stops."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from lstm_jax._core.checks import check_type
from lstm_jax.training.checkpoints import Saving
from lstm_jax.training.interruption import in_any_process
from lstm_jax.training.validation import Validation, check_validation


class Plan(NamedTuple):
    """The options of ``fit`` that determine when it writes rows, validates, saves and stops."""

    steps: int
    log_every: int
    validation: Validation | None
    saving: Saving | None
    seconds: float
    """time limit; infinity means none"""
    start_time: float
    """``time.monotonic()`` at the start of the loop"""
    is_interrupted: Callable[[], bool]

    def progress(self, step: int) -> float:
        """Returns the fraction of the step limit or of the time limit, whichever is larger, at most 1."""
        step_fraction = step / self.steps if self.steps else 1.0
        time_fraction = (time.monotonic() - self.start_time) / self.seconds
        return min(1.0, max(step_fraction, time_fraction))

    def stop_reason(self, step: int, progress: float, has_next_batch: bool) -> str | None:
        """Returns why the run stops after a step, or None if it continues.

        Several processes check for interruptions only every ``log_every`` steps, since the check communicates.

        Args:
            step: the number of steps taken.
            progress: the result of ``self.progress(step)``.
            has_next_batch: whether the batches have another batch.
        Returns:
            stop_reason: ``"steps"``, ``"minutes"``, ``"interrupted"``, ``"batches"`` or None.
        """
        if step == self.steps:
            return "steps"
        if progress >= 1:
            return "minutes"
        checks_interruption = jax.process_count() == 1 or step % self.log_every == 0
        if checks_interruption and in_any_process(self.is_interrupted()):
            return "interrupted"
        return None if has_next_batch else "batches"

    def due(self, step: int, is_last: bool) -> "Due":
        """Returns which actions are due after a step.

        Every validation and every checkpoint also writes a row. The last step writes a row and validates; its
        checkpoint is saved after the loop.

        Args:
            step: the number of steps taken.
            is_last: whether the run stops after this step.
        Returns:
            due: the actions due after this step.
        """
        validates = self.validation is not None and (is_last or step % self.validation.every == 0)
        saves = self.saving is not None and step % self.saving.every == 0
        writes_row = is_last or validates or saves or step % self.log_every == 0
        return Due(writes_row, self.validation if validates else None, saves)


class Due(NamedTuple):
    """The actions that are due after a step."""

    row: bool
    validation: Validation | None
    """None if no validation is due"""
    checkpoint: bool


def check_plan(steps: int, log_every: int, minutes: float | None, validation: Any, saving: Any) -> None:
    """Checks the schedule options of ``fit``.

    Args:
        steps: number of steps, at least 0.
        log_every: steps between rows, at least 1.
        minutes: time limit; must be None with several processes, whose clocks differ.
        validation: a ``Validation`` or None.
        saving: a ``Saving`` or None.
    Raises:
        ValueError: an option is invalid; the message names it.
    """
    if steps < 0:
        raise ValueError(f"steps: got {steps}, want at least 0")
    if log_every < 1:
        raise ValueError(f"log_every: got {log_every}, want at least 1")
    if minutes is not None and jax.process_count() > 1:
        raise ValueError(
            "minutes: got a time limit in several processes, whose clocks differ; want None, with steps as the limit"
        )
    check_type("saving", saving, Saving | None, "for example training.Saving(folder)")
    check_type("validation", validation, Validation | None, "for example training.Validation(batches, every=100)")
    if validation is not None:
        check_validation(validation)
    if saving is not None and (saving.every < 1 or saving.keep < 1):
        name = "every" if saving.every < 1 else "keep"
        raise ValueError(f"Saving.{name}: got {getattr(saving, name)}, want at least 1")
