"""How far a run is: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any

from lstm_jax.training.extras import import_extra

SECONDS_BETWEEN_LINES = 10.0
"""Where output is no terminal, at most one line in this time, beside the first row's and the last one's."""


class Progress:
    """Shows steps and the newest numbers on standard error: by tqdm on a terminal, else by a line now and then.

    Args:
        steps: of the whole run.
        start: steps taken before.
        enabled: whether anything is shown; if not, tqdm is not needed.
        names: the metrics that are shown, where a row has them.
    Raises:
        ImportError: standard error is a terminal and tqdm is not installed.
    """

    def __init__(
        self, steps: int, start: int, *, enabled: bool, names: tuple[str, ...] = ("loss", "valid loss")
    ) -> None:
        self.steps, self.step, self.names = steps, start, names
        self.newest: dict[str, float] = {}
        self.last_line = -float("inf")
        self.is_plain = enabled and not sys.stderr.isatty()
        self.bar: Any = None
        if enabled and not self.is_plain:
            tqdm = import_extra("tqdm").tqdm
            self.bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True, file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def advance(self, step: int) -> None:
        """Moves on to a step."""
        if self.bar is not None:
            self.bar.update(step - self.step)
        self.step = step

    def update(self, row: dict[str, Any], *, is_last: bool = False) -> None:
        """Shows a row's numbers; a validation stays in sight until the next one.

        Args:
            row: numbers by name, and ``step``.
            is_last: whether the run ends with it, so that a plain line is due.
        """
        self.newest |= {name: row[name] for name in self.names if name in row}
        if self.bar is not None:
            self.bar.set_postfix_str(self.text())
        now = time.monotonic()
        if self.is_plain and (is_last or now - self.last_line >= SECONDS_BETWEEN_LINES):
            self.last_line = now
            self.write(f"step {row['step']}/{self.steps}: {self.text()}")

    def text(self) -> str:
        """Returns the newest numbers in one line."""
        return ", ".join(f"{name} {self.newest[name]:.4g}" for name in self.names if name in self.newest)

    def write(self, line: str) -> None:
        """Writes a line, above the bar if there is one; without one and without plain lines nothing."""
        if self.bar is not None:
            self.bar.write(line, file=sys.stderr)
        elif self.is_plain:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the bar."""
        if self.bar is not None:
            self.bar.close()
