"""Time and size of every cell beside the LSTM's, written into the table of docs/cells.md.

python -m benchmarks.cells            about 3 minutes; the forward pass, and value and gradient with respect to
                                      parameters and inputs, in interleaved rounds, on whatever device jax finds
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
from benchmarks.measure import LIMIT, Row, measure
from benchmarks.run import environment
from benchmarks.workloads import WORKLOADS, Workload
from lstm_jax.cells import CELLS

WORKLOAD = "reinforcement"
PAGE = Path(__file__).parent.parent / "docs" / "cells.md"
PLACES = {0: (), 1: (16,), 2: (4, 4)}
"""Maps of convolutions: as many numbers a step as the others read and carry, spread over places."""
PARALLEL = {f"{name}, parallel": name for name in ("min_gru", "min_lstm")}
TIMED = "Measured: "
BASE = "lstm"


class Timed(NamedTuple):
    """What stands in a row of the table."""

    parameters: int
    forward: float
    """time as a multiple of the LSTM's, the median over rounds"""
    gradient: float


def make(name: str, workload: Workload) -> tuple[Callable[..., jax.Array], Any, jax.Array]:
    """(outputs, params, xs) of a row: ``outputs(params, xs)``."""
    cell = CELLS[PARALLEL.get(name, name)]
    space = PLACES[cell.num_spatial_dims]
    inputs, hidden = (size // math.prod(space) for size in (workload.D, workload.H))
    options: dict[str, Any] = {"projection_size": hidden // 2} if name == "projected" else {}
    params = CELLS[PARALLEL.get(name, name)].init(jax.random.key(0), inputs, hidden, **options)
    xs = jax.random.normal(jax.random.key(1), (workload.T, workload.B, *space, inputs))
    run = lj.parallel_unroll if name in PARALLEL else partial(lj.unroll, remat="gates")
    return lambda params, xs: run(cell, params, xs)[1], params, xs


def rows_of(names: list[str], workload: Workload, gradient: bool) -> dict[str, Row]:
    """A compiled program for each cell."""
    rows = {}
    for name in tqdm(names, desc="compiling", leave=False):
        outputs, params, xs = make(name, workload)

        def loss(params: Any, xs: jax.Array, outputs: Callable[..., jax.Array] = outputs) -> jax.Array:
            return jnp.mean(outputs(params, xs) ** 2)

        compiled = jax.jit(jax.value_and_grad(loss, (0, 1)) if gradient else outputs).lower(params, xs).compile()
        rows[name] = Row(partial(_run, compiled, params, xs))
    return rows


def _run(compiled: Callable[..., Any], *arguments: Any) -> Any:
    return jax.block_until_ready(compiled(*arguments))


def measure_all(workload: Workload, seconds: float, names: list[str] | None = None) -> dict[str, Timed]:
    """Every cell's row; ratios are taken in each round and their median is kept."""
    names = names or [*CELLS, *PARALLEL]
    ratios = []
    for gradient in (False, True):
        times = measure(rows_of(names, workload, gradient), seconds, least=5, most=1000)
        times.pop(LIMIT)
        pairs = {name: zip(times[name], times[BASE], strict=True) for name in names}
        ratios.append({name: statistics.median(mine / lstm for mine, lstm in pair) for name, pair in pairs.items()})
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(make(name, workload)[1])) for name in names}
    return {name: Timed(sizes[name], ratios[0][name], ratios[1][name]) for name in names}


def fill(page: str, timed: dict[str, Timed], measured: str) -> str:
    """The page with the last three columns of each row that begins with a cell's name, and the line that says where."""
    lines = []
    for line in page.splitlines():
        name = re.match(r"\| `([^`]+)`", line)
        if name and name[1] in timed:
            row = timed[name[1]]
            kept = line.strip("|").split("|")[:-3]
            line = f"|{'|'.join(kept)}| {row.parameters} | {row.forward:.2f} | {row.gradient:.2f} |"
        lines.append(TIMED + measured if line.startswith(TIMED) else line)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of rounds for each of the two modes")
    seconds = parser.parse_args().seconds
    workload, here = WORKLOADS[WORKLOAD], environment()
    timed = measure_all(workload, seconds)
    sizes = ", ".join(f"{letter}={size}" for letter, size in workload._asdict().items() if letter != "kind")
    where = f"{here['device']}, {here['machine']}, {here['cores']} cores, jax {here['versions']['jax']}"
    PAGE.write_text(fill(PAGE.read_text(), timed, f"{sizes}, float32, {where}, {here['date']}."))
    for name, row in timed.items():
        print(f"{name:20} {row.parameters:8} {row.forward:6.2f} {row.gradient:6.2f}")


if __name__ == "__main__":
    main()
