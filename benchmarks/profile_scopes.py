"""Profiles one training step, and prints the time spent in each ``jax.named_scope`` of the library.

    python -m benchmarks.profile_scopes            # the workload "base"
    python -m benchmarks.profile_scopes long

The scopes are layers, directions, the input projection, the loop over time, and their tangents. Operations that JAX
names ``transpose(jvp(...))`` belong to the backward pass. Times are summed over the threads of a CPU.
"""

import argparse
import re
import tempfile
from collections import Counter
from pathlib import Path

import jax
from jax.profiler import ProfileData

from benchmarks.competitors import ours
from benchmarks.programs import build_program, make_problem
from benchmarks.workloads import WORKLOADS

NUM_STEPS = 5
"""Training steps in the profile; times are averaged over them."""
PARTS = ("input_projection_tangent", "time_loop_tangent", "input_projection", "time_loop")
"""The scopes to tell apart, each before those whose names it contains."""


def describe_scope(op_name: str) -> str:
    """Returns the pass (forward or backward) and the scope of an operation, for example ``backward: time_loop``."""
    part = next((part for part in PARTS if f"/{part}/" in f"{op_name}/"), "around the loop")
    return f"{'backward' if 'transpose(' in op_name else 'forward'}: {part}"


def profile_program(workload_name: str, folder: Path) -> Counter:
    """Measures the seconds per scope in one training step of a workload; ``folder`` receives the profile."""
    workload = WORKLOADS[workload_name]
    layer = ours.layers()["lstm_jax"]
    program = build_program(workload, "value_and_grad", layer, make_problem(workload))
    compiled = jax.jit(program.function).lower(*program.arguments).compile()
    op_names = dict(re.findall(r'%?([\w.\-]+) = .*?op_name="([^"]*)"', compiled.as_text() or ""))
    jax.block_until_ready(compiled(*program.arguments))
    with jax.profiler.trace(str(folder)):
        for _ in range(NUM_STEPS):
            jax.block_until_ready(compiled(*program.arguments))
    seconds: Counter = Counter()
    for plane in ProfileData.from_file(str(next(folder.rglob("*.xplane.pb")))).planes:
        for event in (event for line in plane.lines for event in line.events):
            if event.name in op_names and not event.name.startswith("while"):
                seconds[describe_scope(op_names[event.name])] += event.duration_ns * 1e-9 / NUM_STEPS
    return seconds


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line: prints scope, milliseconds and percentage of the total."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "workload", nargs="?", choices=WORKLOADS, default="base", help="workload to profile (%(default)s)"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        seconds = profile_program(options.workload, Path(folder))
    total = sum(seconds.values())
    for scope, value in seconds.most_common():
        print(f"{scope:36} {1000 * value:8.2f} ms {value / total:6.1%}")


if __name__ == "__main__":
    main()
