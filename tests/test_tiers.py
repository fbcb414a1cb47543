"""The two tiers: together they are every test, and the fast one meets every law and every cell."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import choose_cases

from lstm_jax.cells import CELLS

ROOT = Path(__file__).parent.parent
FILES = ("tests/test_cells.py", "tests/test_laws.py", "tests/test_derivatives.py")


def collect(*options):
    """The ids of the tests that pytest would run with these options."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", *options, *FILES]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [line for line in printed.splitlines() if "::" in line]


@pytest.mark.all_cases
@pytest.mark.parametrize("every", [1, 2, 3, 4, 8])
def test_one_case_of_each_block_is_chosen(every):
    for count in (1, 2, 3, 7, 24):
        chosen = [choose_cases(count, every, first) for first in range(every)]
        assert set().union(*chosen) == set(range(count)), "some case is never met, wherever one begins"
        for cases in chosen:
            assert cases
            assert count // every <= len(cases) <= -(-count // every)


def test_the_place_in_the_block_moves_on():
    """Else a grid whose last option has two values would be run with one of them."""
    assert {case % 2 for case in choose_cases(48, 4, 0)} == {0, 1}
    assert {case % 3 for case in choose_cases(54, 4, 0)} == {0, 1, 2}


def test_the_rest_is_what_the_fast_tier_leaves_out():
    fast, rest, everything = collect("--tier", "fast"), collect("--tier", "rest"), collect()
    assert sorted(fast + rest) == sorted(everything)
    assert len(set(everything)) == len(everything)
    laws = {name.split("[")[0] for name in rest} - {name.split("[")[0] for name in fast}
    assert laws == {"tests/test_derivatives.py::test_third_derivative"}, "it is marked long"
    in_fast = {
        name.split("[")[1].rstrip("]").split("-")[0]
        for name in fast
        if name.startswith("tests/test_cells.py") and "[" in name
    }
    assert in_fast >= set(CELLS)
