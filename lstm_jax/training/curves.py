"""Export of a training history to CSV files and plots."""

import csv
from pathlib import Path

from lstm_jax._core.extras import import_extra
from lstm_jax.training.records import Row


def to_csv(rows: list[Row], path: Path) -> None:
    """Writes rows to a CSV file with one column per metric; a metric that a row lacks is an empty cell.

    Args:
        rows: dicts of metric values by name, such as ``FitResult.history``.
        path: CSV file to write.
    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lstm_jax import training
        >>> path = Path(tempfile.mkdtemp()) / "history.csv"
        >>> training.to_csv([{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "valid loss": 0.75}], path)
        >>> path.read_text().splitlines()
        ['step,loss,valid loss', '1,0.5,', '2,0.25,0.75']
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def plot_curve(
    rows: list[Row], path: Path, *, metric: str = "loss", title: str = "", lines: dict[str, float] | None = None
) -> None:
    """Plots a training metric and its validation counterpart over steps.

    Args:
        rows: dicts of metric values by name, such as ``FitResult.history``.
        path: image file to write; its suffix selects the format.
        metric: name of the metric, without the prefix ``valid``.
        title: title of the plot.
        lines: reference values by name, drawn as horizontal lines, such as the error of a naive forecast.
    Raises:
        ValueError: no row has the metric; the message lists the metrics of the rows.
        ImportError: matplotlib is not installed.
    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lstm_jax import training
        >>> path = Path(tempfile.mkdtemp()) / "curve.png"
        >>> training.plot_curve([{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}], path, lines={"naive": 0.4})
        >>> path.exists()
        True
    """
    figure = import_extra("matplotlib.figure", "training").Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    train = [(row["step"], row[metric]) for row in rows if metric in row]
    valid = [(row["step"], row[f"valid {metric}"]) for row in rows if f"valid {metric}" in row]
    if not train and not valid:
        names = sorted({name.removeprefix("valid ") for row in rows for name in row} - {"step"})
        raise ValueError(f"metric: got {metric!r}, want one of {names}")
    if train:
        axes.plot(*zip(*train, strict=True), color="0.7", linewidth=1, label="training")
    if valid:
        steps, values = zip(*valid, strict=True)
        label = f"held out, {min(values):.3f} to {max(values):.3f}"
        axes.plot(steps, values, "o-", color="#0072B2", markersize=4, label=label)
    for (name, value), style in zip((lines or {}).items(), (":", "-.", "--", (0, (1, 3))) * 9, strict=False):
        axes.axhline(value, color="#D55E00", linestyle=style, linewidth=1, label=f"{name} {value:.3f}")
    axes.set(xlabel="step", ylabel=metric, title=title)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    figure.savefig(path, dpi=120)
