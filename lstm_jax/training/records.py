"""The history of a run: rows of metrics in memory, in a JSON Lines file and for TensorBoard."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from lstm_jax._core.extras import import_extra

Row = dict[str, Any]
"""A row of the history: ``step`` and floats by metric name; validation metrics are named ``valid <name>``."""


class Records:
    """Keeps the rows of a run in memory and, given a folder, in ``history.jsonl`` and for TensorBoard.

    Args:
        folder: folder of the run, created if it does not exist; None keeps the rows in memory only.
        upto: last step to keep of an existing file; a resumed run writes later rows again.
        tensorboard: whether to write the rows for TensorBoard too.
    Raises:
        ImportError: ``tensorboard`` is True and tensorboardX is not installed.
    """

    def __init__(self, folder: Path | None, *, upto: int = 0, tensorboard: bool = False) -> None:
        self.rows: list[Row] = []
        self.path = None if folder is None else folder / "history.jsonl"
        self.tensorboard_writer: Any = None
        self.problem: str | None = None
        if folder is None or self.path is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = [row for row in read_lines(self.path) if row["step"] <= upto]
        self._write_all(self.path)
        if tensorboard:
            summary_writer = import_extra("tensorboardX", "training").SummaryWriter
            self.tensorboard_writer = summary_writer(str(folder / "tensorboard"), purge_step=upto + 1)

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.tensorboard_writer is not None:
            self.tensorboard_writer.close()

    def write(self, row: Row) -> None:
        """Appends a row, in memory and immediately on disk.

        If writing fails, for example because the disk is full, ``problem`` holds the error message and the next call
        writes all rows again.
        """
        self.rows.append(row)
        if self.path is not None:
            try:
                if self.problem is None:
                    with self.path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                else:
                    self._write_all(self.path)
                self.problem = None
            except OSError as error:
                self.problem = f"{self.path}: could not be written ({error.strerror}); training goes on"
        if self.tensorboard_writer is not None:
            for name, value in row.items():
                if name != "step":
                    self.tensorboard_writer.add_scalar(name.replace(" ", "/"), value, row["step"])

    def _write_all(self, path: Path) -> None:
        partial_path = path.with_suffix(".part")
        partial_path.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")
        partial_path.replace(path)


def read_lines(path: Path) -> list[Row]:
    """Reads the rows of a JSON Lines file up to the first invalid line, such as one truncated by a kill."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
