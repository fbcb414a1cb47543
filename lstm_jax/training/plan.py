"""When a run writes rows, validates, saves and ends."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from lstm_jax._core.checks import check_type
from lstm_jax.training.checkpoints import Saving
from lstm_jax.training.interruption import in_any_process
from lstm_jax.training.validation import Validation, check_validation


class Plan(NamedTuple):
    """The options of ``fit`` that say when something happens."""

    steps: int
    log_every: int
    validation: Validation | None
    saving: Saving | None
    seconds: float
    """infinity for no limit"""
    start_time: float
    """of ``time.monotonic``"""
    is_interrupted: Callable[[], bool]

    def progress(self, step: int) -> float:
        """Returns the share of the steps or of the time, whichever is further, at most 1."""
        share = step / self.steps if self.steps else 1.0
        return min(1.0, max(share, (time.monotonic() - self.start_time) / self.seconds))

    def stop_reason(self, step: int, progress: float, has_next_batch: bool) -> str | None:
        """Says why a run ends after a step; several processes agree on an interruption where all of them write a row.

        Args:
            step: the number of steps taken.
            progress: what ``progress`` gave for it.
            has_next_batch: whether there is a batch for another step.
        Returns:
            stop_reason: None if the run goes on.
        """
        if step == self.steps:
            return "steps"
        if progress >= 1:
            return "minutes"
        may_ask = jax.process_count() == 1 or step % self.log_every == 0
        if may_ask and in_any_process(self.is_interrupted()):
            return "interrupted"
        return None if has_next_batch else "batches"

    def due(self, step: int, is_last: bool) -> "Due":
        """Says what follows a step.

        Args:
            step: the number of steps taken.
            is_last: whether the run ends with it.
        Returns:
            due: a row goes with all else; the last step has a validation, and its checkpoint comes after the loop.
        """
        validation = self.validation is not None and (is_last or step % self.validation.every == 0)
        checkpoint = self.saving is not None and step % self.saving.every == 0
        return Due(is_last or validation or checkpoint or step % self.log_every == 0, validation, checkpoint)


class Due(NamedTuple):
    """What follows a step."""

    row: bool
    validation: bool
    checkpoint: bool


def check_plan(steps: int, log_every: int, minutes: float | None, validation: Any, saving: Any) -> None:
    """Checks the options of ``fit`` that say when something happens.

    Args:
        steps: at least 0.
        log_every: at least 1.
        minutes: None in several processes.
        validation: a ``Validation`` or None.
        saving: a ``Saving`` or None.
    Raises:
        ValueError: one of them is something else; the message names it.
    """
    if steps < 0:
        raise ValueError(f"steps: got {steps}, want at least 0")
    if log_every < 1:
        raise ValueError(f"log_every: got {log_every}, want at least 1")
    if minutes is not None and jax.process_count() > 1:
        raise ValueError("minutes: got some in several processes, whose clocks differ; want steps alone")
    check_type("saving", saving, Saving | None, "for example training.Saving(folder)")
    check_type("validation", validation, Validation | None, "for example training.Validation(batches, every=100)")
    if validation is not None:
        check_validation(validation)
    if saving is not None and (saving.every < 1 or saving.keep < 1):
        name = "every" if saving.every < 1 else "keep"
        raise ValueError(f"Saving.{name}: got {getattr(saving, name)}, want at least 1")
