"""Reads compiled programs as text: how often operations run, and how often the host starts something on a GPU."""

import math
import re
from collections.abc import Callable

KINDS_WITHOUT_KERNEL = "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "while"
"""Kinds of operations that launch nothing in a program for GPUs."""
CALL_KINDS = "call", "call-start", "async-start"
"""Kinds of operations that run another computation once."""


def computations(text: str) -> dict[str, str]:
    """Splits the text of a compiled program into its computations: name to body."""
    return dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n(.*?)^\}", text, re.M | re.S))


def count_executed(text: str, is_counted: Callable[[str], bool]) -> int:
    """Counts how often operations of some kinds run; those in a loop count once for each of its iterations.

    Args:
        text: a compiled program.
        is_counted: tells of a kind of operation, such as ``"all-reduce"``, whether it is counted.

    Raises:
        ValueError: if the trip count of a loop is not known, or the program chooses between computations.
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
    """Lists the trip count of each loop in the order of entering them: an outer loop, then those inside it."""
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
    """Counts how often the host starts something on a GPU: a single kernel or copy, or a CUDA graph of several.

    Args:
        thunks: the file that XLA dumps as ``...thunk_sequence_after_thunk_passes.txt``. The condition of a loop with a
            known trip count does not run.
        trip_counts: the result of ``trip_counts``.

    Raises:
        ValueError: if the thunks hold fewer loops than there are trip counts.
    """
    total, remaining = 0, list(trip_counts)
    graph_indent = None  # of the CUDA graph that the current line is in
    loops: list[tuple[int, int, str]] = []  # indentation, trip count, and the part of the loop that the line is in
    for line in thunks.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() in ("condition:", "body:") and graph_indent is None:
            place = max(k for k, loop in enumerate(loops) if loop[2] != "body:")
            loops[place:] = [(loops[place][0], loops[place][1], line.strip())]
        kind = re.match(r"\s*\d+: (k\w+)", line)
        if kind is None:
            continue
        if graph_indent is not None and indent > graph_indent:
            del remaining[: kind[1] == "kWhile"]
            continue
        graph_indent = indent if kind[1] == "kCommandBuffer" else None
        loops = [loop for loop in loops if loop[0] < indent]
        if kind[1] == "kWhile":
            loops.append((indent, remaining.pop(0), ""))
        else:
            total += math.prod(trips if part == "body:" else 0 for _, trips, part in loops)
    if remaining:
        raise ValueError(f"thunks: got {len(trip_counts) - len(remaining)} loops, want {len(trip_counts)}")
    return total


def operation_kind(line: str) -> str:
    """Returns the kind in ``  %name = shape kind(...)``, or an empty text; the shape may be a tuple of tuples."""
    match = re.search(r" ([a-z][\w\-]*)\((?=[%)\w\"/{-])", line.partition(" = ")[2])
    return match[1] if match else ""


def launches_kernel(kind: str) -> bool:
    """Tells whether an operation of this kind launches a kernel or a copy in a program for GPUs."""
    return bool(kind) and kind not in (*KINDS_WITHOUT_KERNEL, *CALL_KINDS) and not kind.endswith(("-done", "-update"))


def _entry(text: str) -> str:
    return re.findall(r"^ENTRY %?([\w.\-]+)", text, re.M)[0]


def _loop_body(line: str) -> str:
    return re.findall(r"body=%?([\w.\-]+)", line)[0]


def _trip_count(line: str) -> int:
    match = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
    if match is None:
        raise ValueError(f"text: got {line.strip()[:200]}, want loops with a known trip count")
    return int(match[1])
