"""Compiled programs, read as text: how often operations run."""

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
            kind = kind_of(line)
            total += counts(kind)
            if " while(" in line and kind != "while":
                raise ValueError(f"text: got {line.strip()[:200]}, which is not read as a loop")
            if kind == "conditional":
                raise ValueError(f"text: got {line.strip()[:200]}, want no choice between computations")
            if kind == "while":
                turns = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
                if turns is None:
                    raise ValueError(f"text: got {line.strip()[:200]}, want loops that say how often they turn")
                total += int(turns[1]) * count(re.findall(r"body=%?([\w.\-]+)", line)[0])
            elif kind in CALLS:
                total += sum(map(count, re.findall(r"(?:to_apply|calls)=%?([\w.\-]+)", line)))
        return total

    return count(re.findall(r"^ENTRY %?([\w.\-]+)", text, re.M)[0])


def kind_of(line: str) -> str:
    """What the operation on this line is: ``  %name = shape kind(...)``; a shape may be a tuple of tuples."""
    found = re.search(r" ([a-z][\w\-]*)\((?=[%)\w\"/{-])", line.partition(" = ")[2])
    return found[1] if found else ""


def launches(kind: str) -> bool:
    """Whether an operation of a program for GPUs launches a kernel or a copy."""
    return bool(kind) and kind not in (*NO_KERNEL, *CALLS) and not kind.endswith(("-done", "-update"))
