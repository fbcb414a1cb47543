"""What a run says of itself: a line of JSON for each row, TensorBoard, a picture of the curve."""

import csv
import json
from pathlib import Path
from types import TracebackType
from typing import Any

from lstm_jax.training.checkpoints import read_lines

Row = dict[str, Any]


class Records:
    """Rows of numbers, kept in memory and, with a folder, in ``history.jsonl`` and for TensorBoard.

    Args:
        upto: rows of later steps are dropped from a file that is there, since a resumed run writes them again.
        tensorboard: needs tensorboardX.
    """

    def __init__(self, folder: Path | None, *, upto: int = 0, tensorboard: bool = False) -> None:
        self.rows: list[Row] = []
        self.path, self.board = None if folder is None else folder / "history.jsonl", None
        self.trouble: str | None = None
        if folder is None or self.path is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = [row for row in read_lines(self.path) if row["step"] <= upto]
        self._write_all(self.path)
        if tensorboard:
            from tensorboardX import SummaryWriter

            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=upto + 1)

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.board is not None:
            self.board.close()

    def write(self, row: Row) -> None:
        """Adds a row, with its ``step``; at once on disk. If that fails ``trouble`` says so, and the next row tries
        again with all of them, so that a run need not end because a disk is full."""
        self.rows.append(row)
        if self.path is not None:
            try:
                if self.trouble is None:
                    with self.path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                else:
                    self._write_all(self.path)
                self.trouble = None
            except OSError as error:
                self.trouble = f"{self.path}: could not be written ({error.strerror}); training goes on"
        if self.board is not None:
            for name, value in row.items():
                if name != "step":
                    self.board.add_scalar(name.replace(" ", "/"), value, row["step"])

    def _write_all(self, path: Path) -> None:
        part = path.with_suffix(".part")
        part.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")
        part.replace(path)


def to_csv(rows: list[Row], path: Path) -> None:
    """Rows as a table with one column for each name; a cell is empty where a row has none."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def plot_curve(
    rows: list[Row], path: Path, *, metric: str = "loss", title: str = "", lines: dict[str, float] | None = None
) -> None:
    """A picture of a metric in training and validation over steps.

    Args:
        lines: what else to compare with, drawn across: names and numbers.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    train = [(row["step"], row[metric]) for row in rows if metric in row]
    valid = [(row["step"], row[f"valid {metric}"]) for row in rows if f"valid {metric}" in row]
    if not train and not valid:
        known = sorted({name.removeprefix("valid ") for row in rows for name in row} - {"step"})
        raise ValueError(f"metric: got {metric!r}, want one of {known}")
    if train:
        axes.plot(*zip(*train, strict=True), color="0.7", linewidth=1, label="training")
    if valid:
        steps, values = zip(*valid, strict=True)
        axes.plot(
            steps,
            values,
            "o-",
            color="#0072B2",
            markersize=4,
            label=f"held out, {min(values):.3f} to {max(values):.3f}",
        )
    for (name, value), style in zip((lines or {}).items(), (":", "-.", "--", (0, (1, 3))) * 9, strict=False):
        axes.axhline(value, color="#D55E00", linestyle=style, linewidth=1, label=f"{name} {value:.3f}")
    axes.set(xlabel="step", ylabel=metric, title=title)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    figure.savefig(path, dpi=120)
