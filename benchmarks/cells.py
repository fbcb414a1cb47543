"""Measures time and size of every cell against the LSTM's, and writes them into the table of docs/cells.md.

``python -m benchmarks.cells`` takes about 3 minutes. It times the forward pass, and value and gradient with respect to
parameters and inputs, in interleaved rounds, on whatever device jax finds.
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
PAGE = Path(__file__).parent.parent / "docs" / "cells.md"
MAP_SHAPES = {0: (), 1: (16,), 2: (4, 4)}
"""Number of spatial axes to their sizes. A convolution reads and carries as many numbers per step as the other cells,
spread over these positions."""
PARALLEL_ROWS = {f"{name}, parallel": name for name in ("min_gru", "min_lstm")}
"""Row to the cell that it runs by ``parallel_unroll``."""
MEASURED_PREFIX = "Measured: "
"""How the line of the page begins that tells where its numbers are from."""
BASELINE_CELL = "lstm"
MIN_ROUNDS, MAX_ROUNDS = 5, 1000


class CellResult(NamedTuple):
    """The numbers in one row of the table."""

    num_parameters: int
    forward: float
    """time as a multiple of the LSTM's, the median over rounds"""
    gradient: float
    """the same ratio for value and gradient"""


def make_outputs(name: str, workload: Workload) -> tuple[Callable[..., jax.Array], Any, jax.Array]:
    """Makes (outputs, params, xs) of a row: its cell's sequence is ``outputs(params, xs)``."""
    cell = CELLS[PARALLEL_ROWS.get(name, name)]
    map_shape = MAP_SHAPES[cell.num_spatial_dims]
    input_size, hidden_size = (size // math.prod(map_shape) for size in (workload.D, workload.H))
    options: dict[str, Any] = {"projection_size": hidden_size // 2} if name == "projected" else {}
    params = cell.init(jax.random.key(0), input_size, hidden_size, **options)
    xs = jax.random.normal(jax.random.key(1), (workload.T, workload.B, *map_shape, input_size))
    run = lj.parallel_unroll if name in PARALLEL_ROWS else partial(lj.unroll, remat="gates")
    return lambda params, xs: run(cell, params, xs)[1], params, xs


def compile_rows(names: list[str], workload: Workload, with_gradient: bool) -> dict[str, Row]:
    """Compiles a program for each cell."""
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
    """Measures cells against the LSTM: a ratio is taken in each round, and the median over rounds is kept.

    Args:
        workload: sizes of the sequences.
        seconds: measuring time of each of the two modes.
        names: rows, the LSTM among them; None means all.
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
    """Writes results into the last three columns of the rows that begin with a cell's name.

    Args:
        page: the text of docs/cells.md.
        results: row to its numbers; other rows stay.
        environment: the text after ``MEASURED_PREFIX``.

    Returns:
        The page with the new numbers.
    """
    lines = []
    for line in page.splitlines():
        name = re.match(r"\| `([^`]+)`", line)
        if name and name[1] in results:
            result = results[name[1]]
            other_columns = line.strip("|").split("|")[:-3]
            numbers = f"{result.num_parameters} | {result.forward:.2f} | {result.gradient:.2f}"
            line = f"|{'|'.join(other_columns)}| {numbers} |"
        lines.append(MEASURED_PREFIX + environment if line.startswith(MEASURED_PREFIX) else line)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="measuring time of each of the two modes")
    seconds = parser.parse_args().seconds
    workload, environment = WORKLOADS[WORKLOAD_NAME], describe_environment()
    results = measure_cells(workload, seconds)
    sizes = ", ".join(f"{letter}={size}" for letter, size in workload._asdict().items() if letter != "kind")
    machine = f"{environment['device']}, {environment['machine']}, {environment['cores']} cores"
    measured = f"{sizes}, float32, {machine}, jax {environment['versions']['jax']}, {environment['date']}."
    PAGE.write_text(fill_table(PAGE.read_text(), results, measured))
    for name, result in results.items():
        print(f"{name:20} {result.num_parameters:8} {result.forward:6.2f} {result.gradient:6.2f}")


if __name__ == "__main__":
    main()
