"""On a GPU: microseconds a step, of the loop in every form, beside what users of JAX and of PyTorch have.

    python -m benchmarks.gpu                          # every size, half an hour
    python -m benchmarks.gpu --minutes 9              # the most telling sizes first; go on with --output FILE
    python -m benchmarks.gpu --report FILE            # tables and pictures, gpu.md beside the file

Rows of a cell are compiled, compared with float64 on the CPU, and timed in interleaved rounds. ``lstm_jax scan`` is
the engine with so many steps in the body of its loop; ``graph`` lets XLA put the whole loop into one CUDA graph, by the
compiler options in ``GRAPH``, which the outermost ``jax.jit`` must be given. Float32 products are TF32 in PyTorch and
cuDNN, and what JAX's default is in the others.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import lstm_jax as lj
from benchmarks import competitors, gpu_report
from benchmarks.competitors.layer import Layer
from benchmarks.measure import LIMIT, Row, compiled, measure
from benchmarks.programs import Problem, build, disagreement, make_problem
from benchmarks.run import environment, write_whole
from benchmarks.workloads import Workload
from lstm_jax._core import engine, implementations, sequence, tuning

STEPS = 512
HIDDEN, ROWS = (128, 64, 256, 512, 1024), (16, 1, 128)
"""In the order in which they are measured."""
MODES = tuple(gpu_report.MODES)
UNROLLS = (1, 4, 8, 16)
GRAPH = {
    "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,WHILE",
    "xla_gpu_graph_min_graph_size": 1,
}
LIBRARIES = {"flax linen OptimizedLSTMCell": "flax linen", "jax.experimental.rnn": "jax.experimental.rnn"}
"""The rows of other libraries, and where they are."""
RESULTS = Path(__file__).parent / "results"


def ours(loop: engine.Loop) -> Layer:
    """The engine with one way to run its steps."""

    def outputs(params: lj.LSTMParams, xs: jax.Array, **options: Any) -> jax.Array:
        del options
        call = sequence.check_call(lj.cells.LSTM, params, xs, None, None, None, None, None, False)
        return sequence._run(lj.cells.LSTM, False, None, loop, call)[1]

    return Layer(lambda params: params, lambda params: params, outputs, lj.lstm_cell)


def named(name: str, params: lj.LSTMParams, xs: jax.Array, **options: Any) -> jax.Array:
    """``lstm`` by an implementation's name."""
    del options
    return lj.lstm(params, xs, implementation=name)[1]


def reference(workload: Workload, mode: str, problem: Problem) -> Any:
    """The result in float64, on the CPU."""
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), problem)
        function, arguments, comparable = build(workload, mode, ours(engine.scan_loop(tuning.scan_config("cpu"))), wide)
        return jax.tree.map(np.asarray, comparable(jax.jit(function)(*arguments)))


def rows_of(workload: Workload, mode: str, dtype: str, problem: Problem) -> dict[str, Row]:
    """Every form, or why it is not there."""
    cast = partial(jax.tree.map, lambda leaf: leaf.astype(dtype))
    given = problem._replace(params=cast(problem.params), xs=cast(problem.xs))
    scan = tuning.scan_config(jax.default_backend())
    rows = {}
    for unroll in UNROLLS:
        layer = ours(engine.scan_loop(scan._replace(unroll=unroll)))
        rows[f"lstm_jax scan, unroll {unroll}"] = attempt(compiled, workload, mode, layer, given)
    rows["lstm_jax scan, graph"] = attempt(compiled, workload, mode, ours(engine.scan_loop(scan)), given, GRAPH)
    asked = implementations.CallSpec(given.xs, workload.H, None, None, None)
    for name in ("mosaic_gpu", "cudnn"):
        reason = implementations.TABLE[name](asked)
        layer = ours(engine.scan_loop(scan))._replace(sequence=partial(named, name))
        row = Row(None, reason=reason) if reason else attempt(compiled, workload, mode, layer, given)
        rows[f"lstm_jax {name}"] = row
    for name, library in LIBRARIES.items():
        layers = competitors.load(library)
        if isinstance(layers, str):
            rows[name] = Row(None, reason=layers)
        elif name == "jax.experimental.rnn" and dtype != "float32":
            rows[name] = Row(None, reason="float32 only")
        else:
            rows[name] = attempt(compiled, workload, mode, layers[name], given)
    for kind in ("float32",) if dtype == "float32" else ("bfloat16", "float16"):
        rows[f"torch {kind}"] = attempt(torch_row, workload, mode, problem, kind)
    return rows


def torch_row(workload: Workload, mode: str, problem: Problem, dtype: str) -> Row:
    """``torch.nn.LSTM``: cuDNN on a GPU."""
    from benchmarks.competitors import pytorch

    call, comparable = pytorch.build(workload, mode, problem, dtype)
    call()
    return Row(call, comparable)


def attempt(make: Any, *arguments: Any) -> Row:
    """A row, or the message with which a compiler or a library refused it: then the others are still measured."""
    try:
        row: Row = make(*arguments)
        return row
    except Exception as error:
        return Row(None, reason=f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")


def cell_result(workload: Workload, mode: str, dtype: str, seconds: float) -> dict[str, Any]:
    """Measures one size: times, errors and reasons by row."""
    problem = make_problem(workload)
    exact = reference(workload, mode, problem)
    rows = rows_of(workload, mode, dtype, problem)
    errors = {name: disagreement(row.comparable(row.call()), exact) for name, row in rows.items() if row.call}
    times = measure(rows, seconds, 5, 40)
    found = {
        name: {
            "seconds": [float(f"{value:.4g}") for value in times[name]] if row.call else None,
            "error": errors.get(name),
            "reason": row.reason,
        }
        for name, row in rows.items()
    }
    limit = [float(f"{value:.4g}") for value in times[LIMIT]]
    return {**workload._asdict(), "mode": mode, "dtype": dtype, "rows": found, "limit": limit}


def cells(smoke: bool) -> list[tuple[Workload, str, str]]:
    """What is measured, in this order."""
    if smoke:
        return [(Workload(T=8, B=2, D=16, H=16), mode, dtype) for dtype in ("bfloat16", "float32") for mode in MODES]
    sizes = [Workload(T=STEPS, B=rows, D=units, H=units) for rows in ROWS for units in HIDDEN]
    return [(size, mode, dtype) for size in sizes for dtype in ("bfloat16", "float32") for mode in MODES]


def to_report(path: Path) -> tuple[dict[str, Any] | None, Path]:
    """The results in a file and its folder, or none, for the table that says so."""
    if str(path) == "-":
        return None, RESULTS
    try:
        results: dict[str, Any] = json.loads(path.read_text())
        if not results["cells"] or "dtype" not in results["cells"][0]:
            raise ValueError("no cells of this suite")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"--report: got {path}, want a file of results of this suite: {error!r}") from None
    return results, path.parent


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size that takes a minute anywhere")
    parser.add_argument("--seconds", type=float, default=4.0, help="of timing a cell (%(default)s)")
    parser.add_argument("--minutes", type=float, help="start no cell after so many")
    parser.add_argument("--output", type=Path, help="the file of results; continued if it exists")
    parser.add_argument("--report", type=Path, help="write the tables of this file, - for none, and measure nothing")
    options = parser.parse_args(arguments)
    if options.report:
        print(gpu_report.write(*to_report(options.report)))
        return
    here, began = environment(), time.monotonic()
    path = options.output or RESULTS / f"gpu-jax{here['versions']['jax']}.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"environment": here, "cells": []}
    if {**results["environment"], "date": ""} != {**here, "date": ""}:
        parser.error(f"--output: got {path}, made on another device or with other versions; want a new file")
    done = {tuple(cell[key] for key in ("T", "B", "H", "mode", "dtype")) for cell in results["cells"]}
    wanted = [cell for cell in cells(options.smoke) if (cell[0].T, cell[0].B, cell[0].H, *cell[1:]) not in done]
    for workload, mode, dtype in tqdm(wanted, unit="cell"):
        if options.minutes and time.monotonic() - began > 60 * options.minutes:
            break
        results["cells"].append(cell_result(workload, mode, dtype, options.seconds))
        write_whole(path, results)
        tqdm.write(gpu_report.cell_lines(results["cells"][-1]))
    print(f"{path}\nTables: python -m benchmarks.gpu --report {path}")


if __name__ == "__main__":
    main()
