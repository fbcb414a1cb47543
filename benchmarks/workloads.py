"""The named workloads, shared by benchmarks and tests."""

from typing import NamedTuple


class Workload(NamedTuple):
    """The sizes of a benchmark, and the kind of program to run."""

    T: int
    """time steps"""
    B: int
    """batch size"""
    D: int
    """input size"""
    H: int
    """hidden size"""
    kind: str = "sequence"
    """the program, one of the kinds of ``programs.build_program``"""


WORKLOADS = {
    "control": Workload(T=128, B=1, D=128, H=128),
    "reinforcement": Workload(T=96, B=32, D=64, H=128),
    "base": Workload(T=128, B=32, D=256, H=256),
    "wide": Workload(T=128, B=64, D=512, H=512),
    "stream": Workload(T=64, B=1, D=512, H=1024),
    "long": Workload(T=8192, B=8, D=32, H=64),
    "ragged": Workload(T=128, B=32, D=256, H=256, kind="ragged"),
    "resets": Workload(T=96, B=32, D=64, H=128, kind="resets"),
    "stepwise": Workload(T=1, B=1, D=128, H=128, kind="stepwise"),
    "per-example": Workload(T=96, B=32, D=64, H=128, kind="per-example"),
    "hvp": Workload(T=96, B=32, D=64, H=128, kind="hvp"),
    "two layers": Workload(T=128, B=32, D=256, H=256, kind="two layers"),
    "bidirectional": Workload(T=128, B=32, D=256, H=256, kind="bidirectional"),
}
"""The named workloads: name to workload."""

SWEEPS = {
    "H": {f"H={H}": Workload(T=64, B=32, D=H, H=H) for H in (32, 64, 128, 256, 512, 1024)},
    "B": {f"B={B}": Workload(T=64, B=B, D=128, H=128) for B in (1, 2, 4, 8, 16, 32, 64, 128)},
    "T": {f"T={T}": Workload(T=T, B=8, D=32, H=64) for T in (128, 512, 2048, 8192, 32768)},
    "memory": {f"final T={T}": Workload(T=T, B=8, D=32, H=64, kind="final") for T in (1024, 4096, 16384, 65536)},
}
"""Sweeps over one size, name of the sweep to its workloads; each is one plot of the report."""

QUICK_WORKLOADS = ("control", "reinforcement", "base")
"""The workloads of ``python -m benchmarks.run --quick``."""

ALL_WORKLOADS = WORKLOADS | {name: workload for sweep in SWEEPS.values() for name, workload in sweep.items()}
"""The named workloads and those of all sweeps."""
