"""Compiles rows, compares their results, and times them in interleaved rounds."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import competitors
from benchmarks.competitors import ours
from benchmarks.competitors.layer import Layer
from benchmarks.programs import Problem, build, disagreement, make_problem
from benchmarks.workloads import Workload

REST = 0.02
"""Seconds of rest before each measurement, in which the thread pool of the row before stops spinning."""
SHORT = 0.05
"""A call shorter than this is repeated for this long in a measurement, after one that does not count."""
TOLERANCE = {"forward": 1e-4, "value_and_grad": 1e-3}
"""How far any entry of an output or gradient may be from ours, as a share of its array's largest. Sums over T steps in
float32 drift apart; a wrong gate, order or bias is two orders larger."""
LIMIT = "matrix product"
SWEPT = ("lstm_jax", "flax linen OptimizedLSTMCell", "torch")
"""The rows of a sweep; of a library all rows whose names begin so."""


class Row(NamedTuple):
    """One library's program, ready to be timed; or the reason why it cannot run."""

    call: Callable[[], Any] | None
    """runs to its end"""
    comparable: Callable[[Any], Any] = lambda result: result
    first: float | None = None
    """seconds to the first result: tracing, compiling, running"""
    memory: int | None = None
    """bytes of temporary arrays that XLA plans at the peak"""
    reason: str | None = None
    """why there is no call"""


def rows_of(workload: Workload, mode: str, *, few: bool = False) -> dict[str, Row]:
    """Every library's row, or those of a sweep if ``few``, ours first, each compared with ours."""
    problem = make_problem(workload)
    rows = {}
    for library in competitors.LIBRARIES:
        if few and not any(row.startswith(library) for row in SWEPT):
            continue
        layers = competitors.load(library)
        if isinstance(layers, str):
            rows[library] = Row(None, reason=layers)
            continue
        for name, layer in layers.items():
            if _wanted(name, workload, mode, few):
                rows[name] = compiled(workload, mode, layer, problem)
    if workload.kind in ("ragged", "resets"):
        plain, all_taken = workload._replace(kind="sequence"), problem._replace(lengths=None, resets=None)
        for name, layer in ours.layers().items():
            if _wanted(name, plain, mode, few):
                rows[f"{name}, plain"] = compiled(plain, mode, layer, all_taken)
    if _wanted("torch", workload, mode, few):
        rows["torch"] = _torch(workload, mode, problem)
    _compare(rows, mode)
    return rows


def measure(rows: dict[str, Row], seconds: float, least: int, most: int) -> dict[str, list[float]]:
    """Seconds a call of each row, in each round.

    Every round visits all rows in a new random order. Rounds go on for the seconds given, but for at least and at
    most so many.
    """
    calls = {name: row.call for name, row in rows.items() if row.call is not None}
    calls[LIMIT] = matrix_product()
    times: dict[str, list[float]] = {name: [] for name in calls}
    lasts = {name: _clock(call, 1) for name, call in calls.items()}
    order = np.random.default_rng(0)
    end = time.perf_counter() + seconds
    while len(times[LIMIT]) < least or (time.perf_counter() < end and len(times[LIMIT]) < most):
        for name in order.permutation(list(calls)):
            time.sleep(REST)
            repeats = 1
            if lasts[name] < SHORT:
                lasts[name] = _clock(calls[name], 1)
                repeats = max(1, round(SHORT / max(lasts[name], 1e-6)))
            lasts[name] = _clock(calls[name], repeats)
            times[name].append(lasts[name])
    return times


def matrix_product(size: int = 1024) -> Callable[[], Any]:
    """The limit that rows are held against: one large product through XLA, ``2 size^3`` operations."""
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul).lower(matrix, matrix).compile()
    return lambda: jax.block_until_ready(product(matrix, matrix))


def _wanted(name: str, workload: Workload, mode: str, few: bool) -> bool:
    if name == "lstm_jax":
        return mode == "forward"
    if name == "lstm_jax sqrt(T)":
        return workload.kind == "final"
    if name.startswith("lstm_jax"):
        return mode != "forward"
    return not few or name.startswith(SWEPT)


def compiled(
    workload: Workload, mode: str, layer: Layer, problem: Problem, options: dict[str, Any] | None = None
) -> Row:
    """A layer's row, compiled with these options of XLA."""
    if workload.kind in layer.refuses:
        return Row(None, reason=layer.refuses[workload.kind])
    function, arguments, comparable = build(workload, mode, layer, problem)
    jax.block_until_ready(arguments)
    start = time.perf_counter()
    run = jax.jit(function).lower(*arguments).compile(options)
    jax.block_until_ready(run(*arguments))
    first = time.perf_counter() - start
    analysis = run.memory_analysis()
    memory = analysis.temp_size_in_bytes if analysis else None
    return Row(lambda: jax.block_until_ready(run(*arguments)), comparable, first, memory)


def _torch(workload: Workload, mode: str, problem: Problem) -> Row:
    try:
        from benchmarks.competitors import pytorch
    except ImportError as reason:
        return Row(None, reason=str(reason))
    if workload.kind in pytorch.REFUSES:
        return Row(None, reason=pytorch.REFUSES[workload.kind])
    start = time.perf_counter()
    call, comparable = pytorch.build(workload, mode, problem)
    call()
    return Row(call, comparable, time.perf_counter() - start)


def _compare(rows: dict[str, Row], mode: str) -> None:
    """Results of all rows against ours; a wrong setting of a competitor is our defect."""
    results = {
        name: row.comparable(row.call())
        for name, row in rows.items()
        if row.call is not None and not name.endswith(", plain")
    }
    first, reference = next(iter(results.items()))
    for name, result in results.items():
        error = disagreement(result, reference)
        if not error < TOLERANCE[mode]:
            raise AssertionError(f"{name}: a result differs from that of {first} by {error:.1e} of its largest entry")


def _clock(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
