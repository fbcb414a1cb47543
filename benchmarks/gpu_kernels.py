"""Counts instructions and registers in the machine code of the ``mosaic_gpu`` kernels."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import internals

SCHEDULERS_PER_MULTIPROCESSOR = 4
"""Warp schedulers of a multiprocessor; each issues one instruction per cycle."""


def describe_kernel(
    compile_program: Callable[..., Any], direction: str, dtype: str, hidden_size: int, has_flags: bool, dumps: Path
) -> dict[str, Any]:
    """Compiles a kernel, and counts its registers and the instructions and cycles of one time step.

    Args:
        compile_program: ``compile_program(function, *arguments)``; it writes the machine code into ``dumps``.
        direction: ``"forward"`` or ``"backward"``.
        dtype: the dtype of the inputs.
        hidden_size: H.
        has_flags: whether the kernel supports lengths, a mask or resets.
        dumps: an empty folder.

    Returns:
        The counts by the names of the columns of ``gpu_programs_report.KERNEL_COLUMNS``.
    """
    function, arguments = internals.kernel_program(direction, dtype, hidden_size, has_flags)
    compile_program(function, *arguments)
    (assembler_output,), (code,) = dumps.glob("*.ptxas"), dumps.glob("*.sass_ctrl")
    message = assembler_output.read_text()
    instructions = loop_instructions(code.read_text())
    counts = Counter(instruction.split(".")[0] for instruction in instructions)
    return {
        "registers": int(re.findall(r"Used (\d+) registers", message)[0]),
        "spilled": int(re.findall(r"(\d+) bytes spill stores", message)[0]),
        "instructions": len(instructions),
        "products": counts["HGMMA"],
        "special": counts["MUFU"],
        "cycles": len(instructions) * internals.warps_per_block(hidden_size) // SCHEDULERS_PER_MULTIPROCESSOR,
    }


def loop_instructions(code: str) -> list[str]:
    """Lists the instructions of the loop over time, which is the largest loop of a disassembled kernel.

    Raises:
        ValueError: if the code has no loop.
    """
    instructions: list[str] = []
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []  # (start, stop) indices into instructions
    for line in code.splitlines():
        if label := re.match(r"\.(L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        elif instruction := re.match(r".*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(\S+)(.*)", line):
            instructions.append(instruction[1])
            is_branch = instruction[1].startswith("BRA")
            target = re.search(r"\.(L_x_\d+)\)", instruction[2]) if is_branch else None
            if target and target[1] in labels:
                loops.append((labels[target[1]], len(instructions)))
    if not loops:
        raise ValueError(f"code: got {len(instructions)} instructions, want a loop among them")
    return instructions[slice(*max(loops, key=lambda loop: loop[1] - loop[0]))]
