"""Measures the time per step of an LSTM on a GPU: every implementation of lstm_jax, other JAX libraries, PyTorch.

    python -m benchmarks.gpu                          # all sizes, half an hour
    python -m benchmarks.gpu --minutes 9              # the most important sizes first; --output FILE continues
    python -m benchmarks.gpu --report FILE            # tables and plots, gpu.md beside the file

A case is one size, mode and dtype, and a row is one program for it. Rows are compiled, compared with float64 on the
CPU, and timed in interleaved rounds. ``lstm_jax scan, unroll N`` has N steps in the body of its loop over time. In
``whole-loop graph`` XLA compiles the loop as one CUDA graph, by the compiler options ``WHOLE_LOOP_GRAPH`` of the
outermost ``jax.jit``. Matrix products of float32 arrays use TF32 in PyTorch and cuDNN, and JAX's default precision in
the other rows.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import lstm_jax as lj
from benchmarks import competitors, gpu_report, internals
from benchmarks.measure import MATRIX_PRODUCT, Row, compile_row, measure
from benchmarks.programs import Problem, build_program, make_problem, max_relative_error
from benchmarks.run import describe_environment, round_seconds, write_atomically
from benchmarks.workloads import Workload

NUM_STEPS = 512
"""T of every case."""
HIDDEN_SIZES, BATCH_SIZES = (128, 64, 256, 512, 1024), (16, 1, 128)
"""H (= D) and B, in the order of measurement."""
DTYPES = ("bfloat16", "float32")
"""Dtypes of parameters and inputs."""
MODES = tuple(gpu_report.MODES)
"""``"forward"`` and ``"value_and_grad"``."""
UNROLLS = (1, 4, 8, 16)
"""Numbers of time steps in the body of a scan."""
MIN_ROUNDS, MAX_ROUNDS = 5, 40
"""The fewest and the most rounds of a case."""
WHOLE_LOOP_GRAPH = {
    "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,WHILE",
    "xla_gpu_graph_min_graph_size": 1,
}
"""Compiler options with which XLA compiles a loop as one CUDA graph."""
LIBRARY_ROWS = {"flax linen OptimizedLSTMCell": "flax linen", "jax.experimental.rnn": "jax.experimental.rnn"}
"""Name of a row to the JAX library that it runs, a key of ``competitors.LIBRARIES``."""
RESULTS = Path(__file__).parent / "results"
"""The folder of published results."""

Case = tuple[Workload, str, str]
"""(workload, mode, dtype)"""


def compute_reference(workload: Workload, mode: str, problem: Problem) -> Any:
    """Computes the result of a workload in float64 on the CPU."""
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        float64_problem = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), problem)
        program = build_program(workload, mode, internals.scan_layer("cpu"), float64_problem)
        return jax.tree.map(np.asarray, program.to_comparable(jax.jit(program.function)(*program.arguments)))


def make_rows(workload: Workload, mode: str, dtype: str, problem: Problem) -> dict[str, Row]:
    """Compiles every row of a case; a row that cannot run holds the reason instead."""
    problem_in_dtype = cast_problem(problem, dtype)
    compile_layer = partial(try_row, compile_row, workload, mode)
    platform = jax.default_backend()
    rows = {}
    for unroll in UNROLLS:
        layer = internals.scan_layer(platform, unroll)
        rows[gpu_report.UNROLLED_ROW.format(unroll)] = compile_layer(layer, problem_in_dtype)
    scan = internals.scan_layer(platform)
    rows[gpu_report.WHOLE_LOOP_ROW] = compile_layer(scan, problem_in_dtype, WHOLE_LOOP_GRAPH)
    for name in ("mosaic_gpu", "cudnn"):
        reason = internals.why_not(name, problem_in_dtype.xs, workload.H)
        layer = scan._replace(run_sequence=partial(_run_implementation, name))
        rows[f"lstm_jax {name}"] = Row(None, reason=reason) if reason else compile_layer(layer, problem_in_dtype)
    for name, library in LIBRARY_ROWS.items():
        layers = competitors.load(library)
        if isinstance(layers, str):
            rows[name] = Row(None, reason=layers)
        elif name == "jax.experimental.rnn" and dtype != "float32":
            rows[name] = Row(None, reason="float32 only")
        else:
            rows[name] = compile_layer(layers[name], problem_in_dtype)
    for torch_dtype in ("float32",) if dtype == "float32" else ("bfloat16", "float16"):
        rows[gpu_report.TORCH_ROW.format(dtype=torch_dtype)] = try_row(torch_row, workload, mode, problem, torch_dtype)
    return rows


def cast_problem(problem: Problem, dtype: str) -> Problem:
    """Casts the parameters and inputs of a problem to a dtype; the target remains float32."""
    cast = partial(jax.tree.map, lambda leaf: leaf.astype(dtype))
    return problem._replace(params=cast(problem.params), xs=cast(problem.xs))


def _run_implementation(name: str, params: lj.LSTMParams, xs: jax.Array, **options: Any) -> jax.Array:
    del options
    return lj.lstm(params, xs, implementation=name)[1]


def torch_row(workload: Workload, mode: str, problem: Problem, dtype: str) -> Row:
    """Makes the row of ``torch.nn.LSTM``, which runs cuDNN on a GPU."""
    from benchmarks.competitors import pytorch

    call, to_comparable = pytorch.build(workload, mode, problem, dtype)
    call()
    return Row(call, to_comparable)


def try_row(make_row: Callable[..., Row], *arguments: Any) -> Row:
    """Calls ``make_row``; if it raises, returns a row with the error as its reason, so that other rows still run."""
    try:
        return make_row(*arguments)
    except Exception as error:
        return Row(None, reason=f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")


def measure_case(workload: Workload, mode: str, dtype: str, seconds: float) -> dict[str, Any]:
    """Measures one case and returns its entry in the file of results: times, errors and reasons per row."""
    problem = make_problem(workload)
    reference = compute_reference(workload, mode, problem)
    rows = make_rows(workload, mode, dtype, problem)
    errors = {
        name: max_relative_error(row.to_comparable(row.call()), reference) for name, row in rows.items() if row.call
    }
    times = measure(rows, seconds, MIN_ROUNDS, MAX_ROUNDS)
    entries = {
        name: {
            "seconds": round_seconds(times[name]) if row.call else None,
            "error": errors.get(name),
            "reason": row.reason,
        }
        for name, row in rows.items()
    }
    product = round_seconds(times[MATRIX_PRODUCT])
    return {**workload._asdict(), "mode": mode, "dtype": dtype, "rows": entries, "matrix_product": product}


def list_cases(smoke: bool) -> list[Case]:
    """Lists the cases in the order of measurement; with ``smoke`` only one small size."""
    sizes = [Workload(T=NUM_STEPS, B=batch, D=hidden, H=hidden) for batch in BATCH_SIZES for hidden in HIDDEN_SIZES]
    if smoke:
        sizes = [Workload(T=8, B=2, D=16, H=16)]
    return [(size, mode, dtype) for size in sizes for dtype in DTYPES for mode in MODES]


def read_results(path: Path) -> tuple[dict[str, Any] | None, Path]:
    """Reads a file of results, and returns it with its folder; the path ``-`` means None and the folder ``RESULTS``.

    Raises:
        SystemExit: if the file does not hold results of this suite.
    """
    if str(path) == "-":
        return None, RESULTS
    try:
        results: dict[str, Any] = json.loads(path.read_text())
        if not results["cases"] or "dtype" not in results["cases"][0]:
            raise ValueError("no cases of this suite")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"--report: got {path}, want a file of results of this suite: {error!r}") from None
    return results, path.parent


def open_results(path: Path) -> dict[str, Any]:
    """Reads the file of results to continue, or returns empty results if it does not exist.

    Raises:
        SystemExit: if the file was measured on another device or with other versions.
    """
    environment = describe_environment()
    if not path.exists():
        return {"environment": environment, "cases": []}
    results: dict[str, Any] = json.loads(path.read_text())
    if {**results["environment"], "date": ""} != {**environment, "date": ""}:
        raise SystemExit(f"--output: got {path}, made on another device or with other versions; want a new file")
    return results


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one small size, a minute on any device")
    parser.add_argument("--seconds", type=float, default=4.0, help="measuring time of a case (%(default)s)")
    parser.add_argument("--minutes", type=float, help="start no case after this time")
    parser.add_argument("--output", type=Path, help="file of results; continued if it exists")
    parser.add_argument("--report", type=Path, help="only write the tables and plots of this file, or empty ones for -")
    options = parser.parse_args(arguments)
    if options.report:
        print(gpu_report.write_report(*read_results(options.report)))
        return
    start = time.monotonic()
    path = options.output or RESULTS / f"gpu-jax{jax.__version__}.json"
    results = open_results(path)
    done = {tuple(case[key] for key in ("T", "B", "H", "mode", "dtype")) for case in results["cases"]}
    missing = [case for case in list_cases(options.smoke) if (case[0].T, case[0].B, case[0].H, *case[1:]) not in done]
    for workload, mode, dtype in tqdm(missing, unit="case"):
        if options.minutes and time.monotonic() - start > 60 * options.minutes:
            break
        results["cases"].append(measure_case(workload, mode, dtype, options.seconds))
        write_atomically(path, results)
        tqdm.write(gpu_report.case_lines(results["cases"][-1]))
    print(f"{path}\nTables: python -m benchmarks.gpu --report {path}")


if __name__ == "__main__":
    main()
