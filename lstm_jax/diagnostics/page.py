"""A page to explore a trace in a browser: one HTML file with everything in it, no server, no download."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from scipy.stats import rankdata

from lstm_jax.diagnostics.traces import SIGMOIDS

TEMPLATE = Path(__file__).with_name("page.html")
ORDER = "ifgozrncmh"
"""Of the fields on the page."""
FINE = 32767
"""Numbers are kept as 16-bit integers, this one for the largest of a cell."""


def write_page(
    path: Path,
    seen: Mapping[str, ArrayLike],
    labels: Sequence[str] | np.ndarray | jax.Array,
    *,
    between: str | None = None,
    title: str = "What the network remembers",
    features: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Writes a page that shows every cell over a text or a series, and lets it be ranked, searched and hovered over.

        seen = diagnostics.trace(params, embedded)
        diagnostics.write_page(Path("cells.html"), seen, list(text), features={"inside a string": quoted})

    A browser keeps up with some thousand steps; a text of books is better cut.

    Args:
        seen: of one sequence, arrays ``[T, H]``; a field may be wider or narrower than another.
        labels: the characters or words, one for each step; or a series ``[T]`` of numbers, drawn as a line.
        between: what stands between two labels; None means a blank between words and nothing between characters.
        title: above the page.
        features: ``[T]``, booleans or numbers, by which cells can be ranked.
    Raises:
        ValueError: shapes that do not fit, numbers that are not finite.
    """
    fields = {name: np.asarray(seen[name], np.float64) for name in sorted(seen, key=_place)}
    extras = {name: np.asarray(values, np.float64) for name, values in (features or {}).items()}
    steps = _check(fields, labels, extras)
    texts = all(isinstance(one, str) for one in labels)
    series = None if texts else np.asarray(labels, np.float64)
    data = {
        "title": title,
        "steps": steps,
        "cells": max(values.shape[1] for values in fields.values()),
        "labels": list(labels) if texts else None,
        "between": (" " if texts and max(map(len, labels)) > 1 else "") if between is None else between,
        "series": None if series is None else [float(f"{one:.6g}") for one in series],
        "gates": [name for name in fields if name in SIGMOIDS],
        "fields": {name: _packed(values) for name, values in fields.items()},
        "features": {name: _packed(rankdata(values)[:, None]) for name, values in extras.items()},
    }
    text = json.dumps(data).replace("<", "\\u003c")  # so that no label ends the script
    Path(path).write_text(TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/null", text), encoding="utf-8")


def _place(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


def _check(fields: dict[str, np.ndarray], labels: Any, features: dict[str, np.ndarray]) -> int:
    """How many steps there are, the same in all."""
    shapes = {name: values.shape for name, values in fields.items()}
    if not shapes or any(len(shape) != 2 for shape in shapes.values()):
        raise ValueError(f"seen: got {shapes}, want [T, H] throughout, a trace of one sequence; maps reshaped to that")
    steps = next(iter(shapes.values()))[0]
    if not steps or any(shape[0] != steps for shape in shapes.values()):
        raise ValueError(f"seen: got {shapes}, want as many steps in each field, at least 1")
    each = {"labels": np.shape(labels)} | {f"features[{name!r}]": one.shape for name, one in features.items()}
    for name, shape in each.items():
        if shape != (steps,):
            raise ValueError(f"{name}: got shape {shape}, want one for each of the {steps} steps")
    for name, values in [*fields.items(), *features.items()]:
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: got numbers that are not finite, want finite ones")
    return int(steps)


def _packed(values: np.ndarray) -> dict[str, object]:
    """Numbers ``[T, H]`` as base64 of 16-bit integers, cell by cell, and what one of each cell is worth."""
    bounds = np.abs(values).max(axis=0)
    bounds[bounds == 0] = 1
    whole = np.rint(values / bounds * FINE).astype("<i2").T
    units = [float(f"{bound / FINE:.7g}") for bound in bounds]
    return {"unit_stats": units, "data": base64.b64encode(whole.tobytes()).decode()}
