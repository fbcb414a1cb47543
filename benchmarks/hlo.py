"""Parses the text of compiled programs: counts executed operations, and starts of kernels and graphs by the host."""

import math
import re
from collections.abc import Callable

KINDS_WITHOUT_KERNEL = "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "while"
"""HLO operations that launch no kernel on a GPU."""
CALL_KINDS = "call", "call-start", "async-start"
"""HLO operations that run another computation once."""


def computations(text: str) -> dict[str, str]:
    """Splits the text of a compiled program into computations, name to body."""
    return dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n(.*?)^\}", text, re.M | re.S))


def count_executed(text: str, is_counted: Callable[[str], bool]) -> int:
    """Counts executed operations of selected kinds; an operation in a loop counts once per iteration.

    Args:
        text: the text of a compiled program.
        is_counted: predicate on the kind of an operation, such as ``"all-reduce"``.

    Returns:
        The number of executions.

    Raises:
        ValueError: if a loop has no known trip count, or the program has a conditional.
    """
    bodies = computations(text)

    def count(body: str) -> int:
        total = 0
        for line in bodies[body].splitlines():
            kind = operation_kind(line)
            total += is_counted(kind)
            if " while(" in line and kind != "while":
                raise ValueError(f"text: got {line.strip()[:200]}, which is not read as a loop")
            if kind == "conditional":
                raise ValueError(f"text: got {line.strip()[:200]}, want no choice between computations")
            if kind == "while":
                total += _trip_count(line) * count(_loop_body(line))
            elif kind in CALL_KINDS:
                total += sum(map(count, re.findall(r"(?:to_apply|calls)=%?([\w.\-]+)", line)))
        return total

    return count(_entry(text))


def trip_counts(text: str) -> list[int]:
    """Lists the trip counts of all loops, an outer loop before its inner loops."""
    bodies = computations(text)
    counts = []

    def enter(body: str) -> None:
        for line in bodies[body].splitlines():
            if operation_kind(line) == "while":
                counts.append(_trip_count(line))
                enter(_loop_body(line))

    enter(_entry(text))
    return counts


def count_host_starts(thunks: str, trip_counts: list[int]) -> int:
    """Counts how often the host starts a kernel, a copy or a CUDA graph.

    Args:
        thunks: the text that XLA dumps as ``...thunk_sequence_after_thunk_passes.txt``. The condition of a loop with a
            known trip count is not counted, since it does not run.
        trip_counts: the trip counts of the program's loops, from the function ``trip_counts``.

    Returns:
        The number of starts.

    Raises:
        ValueError: if the thunks have fewer loops than ``trip_counts``.
    """
    total = 0
    remaining_trip_counts = list(trip_counts)
    graph_indent = None  # indentation of the CUDA graph that contains the line
    loops: list[tuple[int, int, str]] = []  # of the enclosing loops: indentation, trip count, "condition:" or "body:"
    for line in thunks.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() in ("condition:", "body:") and graph_indent is None:
            index = max(k for k, loop in enumerate(loops) if loop[2] != "body:")
            loops[index:] = [(loops[index][0], loops[index][1], line.strip())]
        kind = re.match(r"\s*\d+: (k\w+)", line)
        if kind is None:
            continue
        if graph_indent is not None and indent > graph_indent:
            if kind[1] == "kWhile":
                del remaining_trip_counts[:1]
            continue
        graph_indent = indent if kind[1] == "kCommandBuffer" else None
        loops = [loop for loop in loops if loop[0] < indent]
        if kind[1] == "kWhile":
            loops.append((indent, remaining_trip_counts.pop(0), ""))
        else:
            total += math.prod(trips if part == "body:" else 0 for _, trips, part in loops)
    if remaining_trip_counts:
        num_loops = len(trip_counts) - len(remaining_trip_counts)
        raise ValueError(f"thunks: got {num_loops} loops, want {len(trip_counts)}")
    return total


def operation_kind(line: str) -> str:
    """Returns the kind of operation in a line ``%name = shape kind(...)``, or ``""``; shapes may be nested tuples."""
    match = re.search(r" ([a-z][\w\-]*)\((?=[%)\w\"/{-])", line.partition(" = ")[2])
    return match[1] if match else ""


def launches_kernel(kind: str) -> bool:
    """Tells whether operations of a kind launch a kernel or a copy on a GPU."""
    return bool(kind) and kind not in (*KINDS_WITHOUT_KERNEL, *CALL_KINDS) and not kind.endswith(("-done", "-update"))


def _entry(text: str) -> str:
    """Returns the name of the entry computation."""
    return re.findall(r"^ENTRY %?([\w.\-]+)", text, re.M)[0]


def _loop_body(line: str) -> str:
    """Returns the name of the body of the loop in a line."""
    return re.findall(r"body=%?([\w.\-]+)", line)[0]


def _trip_count(line: str) -> int:
    """Returns the known trip count of the loop in a line."""
    match = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
    if match is None:
        raise ValueError(f"text: got {line.strip()[:200]}, want loops with a known trip count")
    return int(match[1])
