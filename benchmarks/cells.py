"""Measures run time and number of parameters of every cell, and writes them into the table of docs/cells.md.

``python -m benchmarks.cells`` takes about 3 minutes. It times the forward pass, and value and gradient with respect to
parameters and inputs, in interleaved rounds on JAX's default device. Times are given as multiples of the LSTM's.
"""

import argparse
import math
import re
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from tqdm import tqdm

import lstm_jax as lj
from benchmarks.measure import MATRIX_PRODUCT, Row, measure
from benchmarks.run import describe_environment
from benchmarks.workloads import WORKLOADS, Workload
from lstm_jax.cells import CELLS

WORKLOAD_NAME = "reinforcement"
"""The entry of ``WORKLOADS`` that every cell runs."""
PAGE = Path(__file__).parent.parent / "docs" / "cells.md"
"""The page that holds the table."""
MAP_SHAPES = {0: (), 1: (16,), 2: (4, 4)}
"""Number of spatial axes to their sizes. Over all positions, inputs and states of a convolutional cell have as many
elements as those of the other cells."""
PARALLEL_ROWS = {f"{name}, parallel": name for name in ("min_gru", "min_lstm")}
"""Name of a row to the cell that it runs with ``parallel_unroll``."""
MEASURED_PREFIX = "Measured: "
"""The first word of the line of the page that describes workload, machine and versions."""
BASELINE_CELL = "lstm"
"""The cell whose times are 1."""
MIN_ROUNDS, MAX_ROUNDS = 5, 1000
"""The fewest and the most rounds of measurements."""


class CellResult(NamedTuple):
    """The measurements in one row of the table."""

    num_parameters: int
    """number of scalar parameters"""
    forward: float
    """time of the forward pass divided by the LSTM's, median over rounds"""
    gradient: float
    """time of value and gradient divided by the LSTM's, median over rounds"""


def make_outputs(name: str, workload: Workload) -> tuple[Callable[..., jax.Array], Any, jax.Array]:
    """Returns (outputs, params, xs) for a row of the table; ``outputs(params, xs)`` runs its cell over the sequence."""
    cell = CELLS[PARALLEL_ROWS.get(name, name)]
    map_shape = MAP_SHAPES[cell.num_spatial_dims]
    input_size, hidden_size = (size // math.prod(map_shape) for size in (workload.D, workload.H))
    options: dict[str, Any] = {"projection_size": hidden_size // 2} if name == "projected" else {}
    params = cell.init(jax.random.key(0), input_size, hidden_size, **options)
    xs = jax.random.normal(jax.random.key(1), (workload.T, workload.B, *map_shape, input_size))
    run = lj.parallel_unroll if name in PARALLEL_ROWS else partial(lj.unroll, remat="gates")
    return lambda params, xs: run(cell, params, xs)[1], params, xs


def compile_rows(names: list[str], workload: Workload, with_gradient: bool) -> dict[str, Row]:
    """Compiles the forward pass, or value and gradient, of each row."""
    rows = {}
    for name in tqdm(names, desc="compiling", leave=False):
        outputs, params, xs = make_outputs(name, workload)

        def loss(params: Any, xs: jax.Array, outputs: Callable[..., jax.Array] = outputs) -> jax.Array:
            return jnp.mean(outputs(params, xs) ** 2)

        function = jax.value_and_grad(loss, (0, 1)) if with_gradient else outputs
        rows[name] = Row(partial(_run, jax.jit(function).lower(params, xs).compile(), params, xs))
    return rows


def _run(compiled: Callable[..., Any], *arguments: Any) -> Any:
    return jax.block_until_ready(compiled(*arguments))


def measure_cells(workload: Workload, seconds: float, names: list[str] | None = None) -> dict[str, CellResult]:
    """Measures cells relative to the LSTM, by the median over rounds of the ratio of their times.

    Args:
        workload: sizes of the sequences.
        seconds: measuring time for the forward pass, and again for value and gradient.
        names: rows to measure, including "lstm"; None means all.

    Returns:
        Name of a row to its measurements.
    """
    names = names or [*CELLS, *PARALLEL_ROWS]
    ratios = []
    for with_gradient in (False, True):
        times = measure(compile_rows(names, workload, with_gradient), seconds, MIN_ROUNDS, MAX_ROUNDS)
        times.pop(MATRIX_PRODUCT)
        pairs = {name: zip(times[name], times[BASELINE_CELL], strict=True) for name in names}
        ratios.append({name: statistics.median(cell / lstm for cell, lstm in pair) for name, pair in pairs.items()})
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(make_outputs(name, workload)[1])) for name in names}
    return {name: CellResult(sizes[name], ratios[0][name], ratios[1][name]) for name in names}


def fill_table(page: str, results: dict[str, CellResult], environment: str) -> str:
    """Replaces the last three columns of the table's rows.

    Args:
        page: the text of docs/cells.md.
        results: name of a row to its measurements; rows without an entry are unchanged.
        environment: the new text after ``MEASURED_PREFIX``.

    Returns:
        The updated text of the page.
    """
    lines = []
    for line in page.splitlines():
        name = re.match(r"\| `([^`]+)`", line)
        if name and name[1] in results:
            result = results[name[1]]
            other_columns = line.strip("|").split("|")[:-3]
            measured_columns = f"{result.num_parameters} | {result.forward:.2f} | {result.gradient:.2f}"
            line = f"|{'|'.join(other_columns)}| {measured_columns} |"
        lines.append(MEASURED_PREFIX + environment if line.startswith(MEASURED_PREFIX) else line)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="measuring time of each mode (%(default)s)")
    seconds = parser.parse_args().seconds
    workload = WORKLOADS[WORKLOAD_NAME]
    environment = describe_environment()
    results = measure_cells(workload, seconds)
    sizes = ", ".join(f"{letter}={size}" for letter, size in workload._asdict().items() if letter != "kind")
    machine = f"{environment['device']}, {environment['machine']}, {environment['cores']} cores"
    measured = f"{sizes}, float32, {machine}, jax {environment['versions']['jax']}, {environment['date']}."
    PAGE.write_text(fill_table(PAGE.read_text(), results, measured))
    for name, result in results.items():
        print(f"{name:20} {result.num_parameters:8} {result.forward:6.2f} {result.gradient:6.2f}")


if __name__ == "__main__":
    main()
