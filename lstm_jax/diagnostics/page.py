"""A page to explore a trace in a browser: one HTML file that holds everything, without a server or a download."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from scipy.stats import rankdata

from lstm_jax.diagnostics.traces import SIGMOID_LETTERS

TEMPLATE = Path(__file__).with_name("page.html")

FIELD_ORDER = "ifgozrncmh"
"""The order of the fields on the page; fields of other names follow."""

INT16_MAX = 32767
"""Values are stored as 16-bit integers; this one stands for the largest value of a unit."""


def write_page(
    path: str | Path,
    fields: Mapping[str, ArrayLike],
    labels: Sequence[str] | np.ndarray | jax.Array,
    *,
    separator: str | None = None,
    title: str = "What the network remembers",
    features: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Writes an HTML page that shows every hidden unit over a text or a series and lets a reader rank and search them.

    A browser keeps up with some thousand steps; a longer sequence is better cut.

    Args:
        path: the file to write.
        fields: a trace of one sequence, arrays ``[T, H]``; one of them may have more or fewer units than another.
        labels: the characters or words, one for each step; or a series ``[T]`` of numbers, which is drawn as a line.
        separator: the text between two labels; None means a blank between words and nothing between characters.
        title: the headline of the page.
        features: by name arrays ``[T]`` of booleans or numbers, by which units can be ranked.
    Raises:
        ValueError: for shapes that do not fit, or numbers that are not finite.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj, pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "units.html"
        >>> xs = jax.nn.one_hot(jnp.array([0, 1, 2]), 3)
        >>> fields = lj.diagnostics.trace(lj.init_params(jax.random.key(0), 3, 8), xs)
        >>> lj.diagnostics.write_page(path, fields, ["a", "b", "c"], features={"is a": xs[:, 0]})
        >>> path.read_text()[:15]
        '<!doctype html>'
    """
    arrays = {name: np.asarray(fields[name], np.float64) for name in sorted(fields, key=_field_rank)}
    feature_arrays = {name: np.asarray(values, np.float64) for name, values in (features or {}).items()}
    num_steps = _check(arrays, labels, feature_arrays)
    is_text = all(isinstance(label, str) for label in labels)
    if separator is None:
        separator = " " if is_text and max(map(len, labels)) > 1 else ""
    data = {
        "title": title,
        "steps": num_steps,
        "units": max(values.shape[1] for values in arrays.values()),
        "labels": list(labels) if is_text else None,
        "separator": separator,
        "series": None if is_text else [float(f"{number:.6g}") for number in np.asarray(labels, np.float64)],
        "gates": [name for name in arrays if name in SIGMOID_LETTERS],
        "fields": {name: _pack(values) for name, values in arrays.items()},
        "features": {name: _pack(rankdata(values)[:, None]) for name, values in feature_arrays.items()},
    }
    text = json.dumps(data).replace("<", "\\u003c")  # so that no label ends the script
    Path(path).write_text(TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/null", text), encoding="utf-8")


def _field_rank(name: str) -> int:
    return FIELD_ORDER.index(name) if name in FIELD_ORDER else len(FIELD_ORDER)


def _check(fields: dict[str, np.ndarray], labels: Any, features: dict[str, np.ndarray]) -> int:
    """Raises ValueError if the arrays do not fit each other; returns the number of steps."""
    shapes = {name: values.shape for name, values in fields.items()}
    if not shapes or any(len(shape) != 2 for shape in shapes.values()):
        raise ValueError(
            f"fields: got {shapes}, want [T, H] throughout, a trace of one sequence; maps reshaped to that"
        )
    num_steps = next(iter(shapes.values()))[0]
    if not num_steps or any(shape[0] != num_steps for shape in shapes.values()):
        raise ValueError(f"fields: got {shapes}, want as many steps in each field, at least 1")
    per_step = {"labels": np.shape(labels)} | {f"features[{name!r}]": values.shape for name, values in features.items()}
    for name, shape in per_step.items():
        if shape != (num_steps,):
            raise ValueError(f"{name}: got shape {shape}, want one for each of the {num_steps} steps")
    for name, values in [*fields.items(), *features.items()]:
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: got numbers that are not finite, want finite ones")
    return int(num_steps)


def _pack(values: np.ndarray) -> dict[str, object]:
    """Packs values ``[T, H]`` as 16-bit integers in base64, unit by unit, with the scale that restores each unit."""
    bounds = np.abs(values).max(axis=0)
    bounds[bounds == 0] = 1
    integers = np.rint(values / bounds * INT16_MAX).astype("<i2").T
    scales = [float(f"{bound / INT16_MAX:.7g}") for bound in bounds]
    return {"scales": scales, "data": base64.b64encode(integers.tobytes()).decode()}
