"""Compiled programs, read as text: how often operations run, and how often the host starts something on a GPU."""

import math
import re
from collections.abc import Callable

NO_KERNEL = "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "while"
"""Operations of a program for GPUs that launch nothing."""
CALLS = "call", "call-start", "async-start"


def computations(text: str) -> dict[str, str]:
    """Name to body of each computation."""
    return dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n(.*?)^\}", text, re.M | re.S))


def executed(text: str, counts: Callable[[str], bool]) -> int:
    """How often the operations of these kinds run, in loops as often as the loop turns.

    Args:
        text: of a compiled program.
        counts: whether a kind of operation, such as ``"all-reduce"``, is counted.
    Raises:
        ValueError: a loop whose turns are not known, or a choice between computations.
    """
    bodies = computations(text)

    def count(body: str) -> int:
        total = 0
        for line in bodies[body].splitlines():
            kind = cell_of_params(line)
            total += counts(kind)
            if " while(" in line and kind != "while":
                raise ValueError(f"text: got {line.strip()[:200]}, which is not read as a loop")
            if kind == "conditional":
                raise ValueError(f"text: got {line.strip()[:200]}, want no choice between computations")
            if kind == "while":
                times = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
                if times is None:
                    raise ValueError(f"text: got {line.strip()[:200]}, want loops that say how often they turn")
                total += int(times[1]) * count(re.findall(r"body=%?([\w.\-]+)", line)[0])
            elif kind in CALLS:
                total += sum(map(count, re.findall(r"(?:to_apply|calls)=%?([\w.\-]+)", line)))
        return total

    return count(re.findall(r"^ENTRY %?([\w.\-]+)", text, re.M)[0])


def turns(text: str) -> list[int]:
    """How often each loop turns, in the order in which they are entered, those inside behind the one around them."""
    bodies, found = computations(text), []

    def enter(body: str) -> None:
        for line in bodies[body].splitlines():
            if cell_of_params(line) == "while":
                found.append(int(re.findall(r'known_trip_count":\{"n":"(\d+)"', line)[0]))
                enter(re.findall(r"body=%?([\w.\-]+)", line)[0])

    enter(re.findall(r"^ENTRY %?([\w.\-]+)", text, re.M)[0])
    return found


def started(thunks: str, turns: list[int]) -> int:
    """How often the host starts something on a GPU: a kernel or a copy by itself, or a CUDA graph of several.

    Args:
        thunks: as XLA dumps them, ``...thunk_sequence_after_thunk_passes.txt``; conditions of loops that turn a known
            number of times are not run.
        turns: of ``turns``.
    """
    total, left, graph = 0, list(turns), None  # graph: the indentation of the one that the line is in
    loops: list[tuple[int, int, str]] = []  # indentation, turns, and which part of it the line is in
    for line in thunks.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() in ("condition:", "body:") and graph is None:
            place = max(k for k, loop in enumerate(loops) if loop[2] != "body:")
            loops[place:] = [(loops[place][0], loops[place][1], line.strip())]
        kind = re.match(r"\s*\d+: (k\w+)", line)
        if kind is None:
            continue
        if graph is not None and indent > graph:
            del left[: kind[1] == "kWhile"]
            continue
        graph = indent if kind[1] == "kCommandBuffer" else None
        loops = [loop for loop in loops if loop[0] < indent]
        if kind[1] == "kWhile":
            loops.append((indent, left.pop(0), ""))
        else:
            total += math.prod(times if part == "body:" else 0 for _, times, part in loops)
    if left:
        raise ValueError(f"thunks: got {len(turns) - len(left)} loops, want {len(turns)}")
    return total


def cell_of_params(line: str) -> str:
    """What the operation on this line is: ``  %name = shape kind(...)``; a shape may be a tuple of tuples."""
    found = re.search(r" ([a-z][\w\-]*)\((?=[%)\w\"/{-])", line.partition(" = ")[2])
    return found[1] if found else ""


def launches(kind: str) -> bool:
    """Whether an operation of a program for GPUs launches a kernel or a copy."""
    return bool(kind) and kind not in (*NO_KERNEL, *CALLS) and not kind.endswith(("-done", "-update"))
