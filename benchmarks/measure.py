"""Compiles the programs of all libraries, compares their results, and times them in interleaved rounds."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import competitors
from benchmarks.competitors import ours
from benchmarks.competitors.layer import Layer
from benchmarks.programs import Problem, build_program, make_problem, max_relative_error
from benchmarks.workloads import Workload

REST_SECONDS = 0.02
"""The pause before each measurement, in which the previous row's thread pool stops spinning."""
MIN_TIMING_SECONDS = 0.05
"""A shorter call is repeated for this time in a measurement, after one warm-up call."""
TOLERANCE = {"forward": 1e-4, "value_and_grad": 1e-3}
"""Mode to the largest accepted error of a row against lstm_jax, relative to the largest entry of each array. Float32
rounding accumulates over T steps; a wrong gate, gate order or bias gives an error 100 times larger."""
MATRIX_PRODUCT = "matrix product"
"""The row of one large matrix product, which measures the speed of the machine."""
MATRIX_PRODUCT_SIZE = 1024
"""Rows and columns of its square matrices."""
SWEEP_ROWS = ("lstm_jax", "flax linen OptimizedLSTMCell", "torch")
"""Prefixes of the rows that a sweep measures."""


class Row(NamedTuple):
    """A compiled program of one library, or the reason why it cannot run."""

    call: Callable[[], Any] | None
    """runs the program and waits for its result; None if it cannot run"""
    to_comparable: Callable[[Any], Any] = lambda result: result
    """converts the result to a form that is equal for all libraries"""
    first_seconds: float | None = None
    """time to the first result: tracing, compilation and the first run"""
    temporary_bytes: int | None = None
    """peak size of temporary arrays according to XLA"""
    reason: str | None = None
    """why the program cannot run"""


def make_rows(workload: Workload, mode: str, *, sweep_only: bool = False) -> dict[str, Row]:
    """Compiles the rows of all libraries, lstm_jax first, and compares their results.

    Args:
        workload: the workload to compile.
        mode: ``"forward"`` or ``"value_and_grad"``.
        sweep_only: whether to make only ``SWEEP_ROWS``.

    Returns:
        Name to row.

    Raises:
        AssertionError: if the result of a library differs from that of lstm_jax by more than ``TOLERANCE``.
    """
    problem = make_problem(workload)
    rows = {}
    for library in competitors.LIBRARIES:
        if sweep_only and not any(row.startswith(library) for row in SWEEP_ROWS):
            continue
        layers = competitors.load(library)
        if isinstance(layers, str):
            rows[library] = Row(None, reason=layers)
            continue
        for name, layer in layers.items():
            if _is_measured(name, workload, mode, sweep_only):
                rows[name] = compile_row(workload, mode, layer, problem)
    if workload.kind in ("ragged", "resets"):
        plain_workload = workload._replace(kind="sequence")
        plain_problem = problem._replace(lengths=None, resets=None)
        for name, layer in ours.layers().items():
            if _is_measured(name, plain_workload, mode, sweep_only):
                rows[f"{name}, plain"] = compile_row(plain_workload, mode, layer, plain_problem)
    if _is_measured("torch", workload, mode, sweep_only):
        rows["torch"] = _torch_row(workload, mode, problem)
    _check_agreement(rows, mode)
    return rows


def measure(rows: dict[str, Row], seconds: float, min_rounds: int, max_rounds: int) -> dict[str, list[float]]:
    """Times all rows and one large matrix product in rounds, each in a new random order.

    Args:
        rows: name to row; rows without a call are skipped.
        seconds: measuring time; after it no new round starts once ``min_rounds`` are complete.
        min_rounds: the fewest rounds.
        max_rounds: the most rounds.

    Returns:
        Name of a row to its seconds per call, one entry per round.
    """
    calls = {name: row.call for name, row in rows.items() if row.call is not None}
    calls[MATRIX_PRODUCT] = matrix_product()
    times: dict[str, list[float]] = {name: [] for name in calls}
    last_seconds = {name: _seconds_per_call(call, 1) for name, call in calls.items()}
    rng = np.random.default_rng(0)
    end = time.perf_counter() + seconds
    while len(times[MATRIX_PRODUCT]) < min_rounds or (
        time.perf_counter() < end and len(times[MATRIX_PRODUCT]) < max_rounds
    ):
        for name in rng.permutation(list(calls)):
            time.sleep(REST_SECONDS)
            repeats = 1
            if last_seconds[name] < MIN_TIMING_SECONDS:
                last_seconds[name] = _seconds_per_call(calls[name], 1)
                repeats = max(1, round(MIN_TIMING_SECONDS / max(last_seconds[name], 1e-6)))
            last_seconds[name] = _seconds_per_call(calls[name], repeats)
            times[name].append(last_seconds[name])
    return times


def matrix_product() -> Callable[[], Any]:
    """Compiles a product of square matrices, ``2 MATRIX_PRODUCT_SIZE^3`` operations, and returns its call."""
    matrix = jax.random.normal(jax.random.key(0), (MATRIX_PRODUCT_SIZE, MATRIX_PRODUCT_SIZE))
    product = jax.jit(jnp.matmul).lower(matrix, matrix).compile()
    return lambda: jax.block_until_ready(product(matrix, matrix))


def compile_row(
    workload: Workload, mode: str, layer: Layer, problem: Problem, compiler_options: dict[str, Any] | None = None
) -> Row:
    """Compiles the program of a layer; if the library does not support the workload, the row holds the reason."""
    if workload.kind in layer.unsupported:
        return Row(None, reason=layer.unsupported[workload.kind])
    program = build_program(workload, mode, layer, problem)
    jax.block_until_ready(program.arguments)
    start = time.perf_counter()
    run = jax.jit(program.function).lower(*program.arguments).compile(compiler_options)
    jax.block_until_ready(run(*program.arguments))
    first_seconds = time.perf_counter() - start
    analysis = run.memory_analysis()
    temporary_bytes = analysis.temp_size_in_bytes if analysis else None
    call = lambda: jax.block_until_ready(run(*program.arguments))  # noqa: E731
    return Row(call, program.to_comparable, first_seconds, temporary_bytes)


def _is_measured(name: str, workload: Workload, mode: str, sweep_only: bool) -> bool:
    """Tells whether a row is measured for a workload in a mode."""
    if name == "lstm_jax":
        return mode == "forward"
    if name == "lstm_jax sqrt(T)":
        return workload.kind == "final"
    if name.startswith("lstm_jax"):
        return mode != "forward"
    return not sweep_only or name.startswith(SWEEP_ROWS)


def _torch_row(workload: Workload, mode: str, problem: Problem) -> Row:
    """Builds the row of PyTorch; if it is not installed or lacks the workload, the row holds the reason."""
    try:
        from benchmarks.competitors import pytorch
    except ImportError as reason:
        return Row(None, reason=str(reason))
    if workload.kind in pytorch.UNSUPPORTED:
        return Row(None, reason=pytorch.UNSUPPORTED[workload.kind])
    start = time.perf_counter()
    call, to_comparable = pytorch.build(workload, mode, problem)
    call()
    return Row(call, to_comparable, time.perf_counter() - start)


def _check_agreement(rows: dict[str, Row], mode: str) -> None:
    """Raises AssertionError if the results of two rows differ, for example because a competitor is set up wrongly."""
    results = {
        name: row.to_comparable(row.call())
        for name, row in rows.items()
        if row.call is not None and not name.endswith(", plain")
    }
    reference_name, reference = next(iter(results.items()))
    for name, result in results.items():
        error = max_relative_error(result, reference)
        if not error < TOLERANCE[mode]:
            raise AssertionError(
                f"{name}: a result differs from that of {reference_name} by {error:.1e} of its largest entry"
            )


def _seconds_per_call(call: Callable[[], Any], repeats: int) -> float:
    """Returns the mean time of ``repeats`` calls."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
