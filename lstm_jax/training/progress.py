"""The progress display of a run: a tqdm bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any

from lstm_jax._core.extras import import_extra

SECONDS_BETWEEN_LINES = 10.0
"""Minimum time between plain lines; the first and the last row are always written."""


class Progress:
    """Shows the step and the newest metrics on standard error: a tqdm bar on a terminal, plain lines elsewhere.

    Args:
        steps: total number of steps of the run.
        start: number of steps already taken.
        enabled: whether to show anything; tqdm is imported only if it is True.
        names: names of the metrics to show; those that a row lacks are omitted.
    Raises:
        ImportError: standard error is a terminal and tqdm is not installed.
    """

    def __init__(
        self, steps: int, start: int, *, enabled: bool, names: tuple[str, ...] = ("loss", "valid loss")
    ) -> None:
        self.steps = steps
        self.step = start
        self.names = names
        self.newest_metrics: dict[str, float] = {}
        self.last_line_time = -float("inf")
        self.writes_lines = enabled and not sys.stderr.isatty()
        self.bar: Any = None
        if enabled and not self.writes_lines:
            tqdm = import_extra("tqdm", "training").tqdm
            self.bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True, file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def advance(self, step: int) -> None:
        """Advances the bar to ``step``."""
        if self.bar is not None:
            self.bar.update(step - self.step)
        self.step = step

    def update(self, row: dict[str, Any], *, is_last: bool = False) -> None:
        """Shows the metrics of a row; the newest validation metric stays visible until the next validation.

        Args:
            row: a row of the history, ``step`` and metrics by name.
            is_last: whether this is the last row, which is always written as a plain line.
        """
        self.newest_metrics |= {name: row[name] for name in self.names if name in row}
        if self.bar is not None:
            self.bar.set_postfix_str(self.text())
        now = time.monotonic()
        if self.writes_lines and (is_last or now - self.last_line_time >= SECONDS_BETWEEN_LINES):
            self.last_line_time = now
            self.write(f"step {row['step']}/{self.steps}: {self.text()}")

    def text(self) -> str:
        """Returns the newest metrics as one line of text."""
        shown_metrics = [name for name in self.names if name in self.newest_metrics]
        return ", ".join(f"{name} {self.newest_metrics[name]:.4g}" for name in shown_metrics)

    def write(self, line: str) -> None:
        """Writes a line of text, above the bar on a terminal; does nothing if the display is disabled."""
        if self.bar is not None:
            self.bar.write(line, file=sys.stderr)
        elif self.writes_lines:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Closes the bar."""
        if self.bar is not None:
            self.bar.close()
