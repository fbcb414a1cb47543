"""A page to explore a trace in a browser: one HTML file with everything in it, no server, no download."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.typing import ArrayLike

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
    title: str = "What the network remembers",
    features: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Writes a page that shows every cell over a text or a series, and lets it be ranked, searched and hovered over.

        seen = diagnostics.trace(params, embedded)
        diagnostics.write_page(Path("cells.html"), seen, list(text), features={"inside a string": quoted})

    Args:
        seen: of one sequence, arrays ``[T, H]``.
        labels: the characters or words, one for each step; or a series ``[T]`` of numbers, drawn as a line.
        title: above the page.
        features: ``[T]``, booleans or numbers, by which cells can be ranked.
    Raises:
        ValueError: shapes that do not fit.
    """
    fields = {name: np.asarray(seen[name], np.float32) for name in sorted(seen, key=ORDER.find)}
    shapes = {values.shape for values in fields.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"seen: got shapes {sorted(shapes)}, want [T, H] throughout, a trace of one sequence")
    steps, cells = next(iter(shapes))
    extras = {name: np.asarray(values, np.float32) for name, values in (features or {}).items()}
    for name, length in [("labels", len(labels)), *((f"features[{name!r}]", len(one)) for name, one in extras.items())]:
        if length != steps:
            raise ValueError(f"{name}: got {length}, want one for each of the {steps} steps")
    series = not isinstance(labels[0], str)
    data = {
        "title": title,
        "steps": steps,
        "cells": cells,
        "labels": None if series else list(labels),
        "series": _packed(np.asarray(labels, np.float32)) if series else None,
        "gates": [name for name in fields if name in SIGMOIDS],
        "fields": {name: _packed(values) for name, values in fields.items()},
        "features": {name: _packed(values) for name, values in extras.items()},
    }
    text = json.dumps(data).replace("<", "\\u003c")  # so that no label ends the script
    Path(path).write_text(TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/null", text), encoding="utf-8")


def _packed(values: np.ndarray) -> dict[str, object]:
    """Numbers ``[T, H]`` or ``[T]`` as base64 of 16-bit integers, cell by cell, and what one of each cell is worth."""
    rows = values.T.reshape(-1, len(values))
    bounds = np.abs(rows).max(axis=1, keepdims=True)
    bounds[bounds == 0] = 1
    whole = np.rint(rows * (FINE / bounds)).astype("<i2")
    units = [float(f"{bound / FINE:.7g}") for bound in bounds[:, 0]]
    return {"units": units, "data": base64.b64encode(whole.tobytes()).decode()}
