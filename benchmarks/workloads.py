"""The named workloads, shared by benchmarks and tests."""

from typing import NamedTuple


class Workload(NamedTuple):
    """Sizes of one run: T steps, B rows, D inputs, H hidden units."""

    T: int
    B: int
    D: int
    H: int


WORKLOADS = {
    "base": Workload(T=128, B=32, D=256, H=256),
    "reinforcement": Workload(T=96, B=32, D=64, H=128),
    "wide": Workload(T=128, B=64, D=512, H=512),
    "long": Workload(T=1024, B=8, D=32, H=64),
}
