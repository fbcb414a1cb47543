"""The history of a run on disk: a line of JSON for each row, and TensorBoard."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from lstm_jax.training.extras import import_extra

Row = dict[str, Any]
"""``step`` and numbers by name; those of a validation are called ``valid ...``."""


class Records:
    """Rows of numbers, kept in memory and, with a folder, in ``history.jsonl`` and for TensorBoard.

    Args:
        folder: made if it is not there; None keeps rows in memory only.
        upto: rows of later steps are dropped from a file that is there, since a resumed run writes them again.
        tensorboard: whether rows are also written for TensorBoard.
    Raises:
        ImportError: ``tensorboard`` is wanted and tensorboardX is not installed.
    """

    def __init__(self, folder: Path | None, *, upto: int = 0, tensorboard: bool = False) -> None:
        self.rows: list[Row] = []
        self.path, self.board = None if folder is None else folder / "history.jsonl", None
        self.problem: str | None = None
        if folder is None or self.path is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = [row for row in read_lines(self.path) if row["step"] <= upto]
        self._write_all(self.path)
        if tensorboard:
            writer = import_extra("tensorboardX").SummaryWriter
            self.board = writer(str(folder / "tensorboard"), purge_step=upto + 1)

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.board is not None:
            self.board.close()

    def write(self, row: Row) -> None:
        """Adds a row, with its ``step``, at once on disk.

        If that fails ``problem`` says so, and the next row tries again with all rows, so that a run need not end
        because a disk is full.
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
        if self.board is not None:
            for name, value in row.items():
                if name != "step":
                    self.board.add_scalar(name.replace(" ", "/"), value, row["step"])

    def _write_all(self, path: Path) -> None:
        part = path.with_suffix(".part")
        part.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")
        part.replace(path)


def read_lines(path: Path) -> list[Row]:
    """Returns the whole lines of a file of JSON lines; a last one that was cut off by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
