"""A self-contained HTML page for exploring a trace in a browser, without a server or downloads."""

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
"""Order of the fields on the page; fields with other names come last."""

INT16_MAX = 32767
"""Values are stored as 16-bit integers scaled so that each unit's largest magnitude is this integer."""


def write_page(
    path: str | Path,
    fields: Mapping[str, ArrayLike],
    labels: Sequence[str] | np.ndarray | jax.Array,
    *,
    separator: str | None = None,
    title: str = "What the network remembers",
    features: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Writes an HTML page that shows every hidden unit over a text or a series, with ranking and search of units.

    Browsers handle a few thousand steps; truncate longer sequences.

    Args:
        path: the file to write.
        fields: a trace of one sequence, arrays ``[T, H]``; H may differ between arrays.
        labels: one character or word per step; or a numeric series ``[T]``, which is plotted as a line.
        separator: text between labels; None means a space between words and nothing between characters.
        title: heading of the page.
        features: boolean or numeric arrays ``[T]`` by name, by which units can be ranked; None means no features.
    Raises:
        ValueError: if an array has the wrong shape or contains non-finite values.

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
    num_steps = _check_arrays(arrays, labels, feature_arrays)
    is_text = all(isinstance(label, str) for label in labels)
    if separator is None:
        separator = " " if is_text and max(map(len, labels)) > 1 else ""
    data = {
        "title": title,
        "steps": num_steps,
        "units": max(values.shape[1] for values in arrays.values()),
        "labels": list(labels) if is_text else None,
        "separator": separator,
        "series": None if is_text else [float(f"{value:.6g}") for value in np.asarray(labels, np.float64)],
        "gates": [name for name in arrays if name in SIGMOID_LETTERS],
        "fields": {name: _pack_values(values) for name, values in arrays.items()},
        "features": {name: _pack_values(rankdata(values)[:, None]) for name, values in feature_arrays.items()},
    }
    data_json = json.dumps(data).replace("<", "\\u003c")  # a label cannot close the script element
    page = TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/null", data_json)
    Path(path).write_text(page, encoding="utf-8")


def _field_rank(name: str) -> int:
    return FIELD_ORDER.index(name) if name in FIELD_ORDER else len(FIELD_ORDER)


def _check_arrays(fields: dict[str, np.ndarray], labels: Any, features: dict[str, np.ndarray]) -> int:
    """Returns the number of steps T; raises ValueError if shapes are inconsistent or values are not finite."""
    shapes = {name: values.shape for name, values in fields.items()}
    if not shapes or any(len(shape) != 2 for shape in shapes.values()):
        raise ValueError(
            f"fields: got {shapes}, want [T, H] throughout, a trace of one sequence; maps reshaped to that"
        )
    num_steps = next(iter(shapes.values()))[0]
    if not num_steps or any(shape[0] != num_steps for shape in shapes.values()):
        raise ValueError(f"fields: got {shapes}, want as many steps in each field, at least 1")
    per_step_shapes = {"labels": np.shape(labels)} | {
        f"features[{name!r}]": values.shape for name, values in features.items()
    }
    for name, shape in per_step_shapes.items():
        if shape != (num_steps,):
            raise ValueError(f"{name}: got shape {shape}, want one for each of the {num_steps} steps")
    for name, values in [*fields.items(), *features.items()]:
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: got numbers that are not finite, want finite ones")
    return int(num_steps)


def _pack_values(values: np.ndarray) -> dict[str, object]:
    """Encodes values ``[T, H]`` as base64 of 16-bit integers ``[H, T]``, with one scale per unit."""
    bounds = np.abs(values).max(axis=0)
    bounds[bounds == 0] = 1
    integers = np.rint(values / bounds * INT16_MAX).astype("<i2").T
    scales = [float(f"{bound / INT16_MAX:.7g}") for bound in bounds]
    return {"scales": scales, "data": base64.b64encode(integers.tobytes()).decode()}
