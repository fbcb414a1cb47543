"""Strict settings for every test, the two tiers, the count of compilations, and where the optional data lies."""

import gc
import importlib.metadata
import os
from collections import Counter
from pathlib import Path

import pytest

QUICK_TO_COMPILE = "--xla_backend_optimization_level=0"
if importlib.metadata.version("jaxlib").startswith("0.10."):
    QUICK_TO_COMPILE += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", QUICK_TO_COMPILE)  # a third of the time; XLA_FLAGS= tests what users run

import jax  # noqa: E402  reads XLA_FLAGS

from lstm_jax._core import tuning  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_num_cpu_devices", 2)

ROOT = Path(__file__).parent.parent


FAST_TIER_EVERY = 4
"""The fast tier takes one of so many cases of each test; 4 is coprime to the 3 ways in which most grids are run."""

COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
COMPILATIONS_BEFORE = pytest.StashKey[int]()
num_compilations = Counter()
"""How many programs this process has compiled; the tests that start other processes compile more there."""
compilations_per_test = Counter()
"""What the workers report, by test."""


def pytest_addoption(parser):
    parser.addoption("--every", type=int, default=1, metavar="N", help="of each test's cases take one of N")
    parser.addoption(
        "--tier",
        choices=("all", "fast", "rest"),
        default="all",
        help=f"fast: one of {FAST_TIER_EVERY} cases of each test that is not marked long; rest: what fast leaves out",
    )


def choose_cases(count, every, first):
    """The indices of the cases that ``--every`` takes: one of each block, the place in it moving on by one a block.

    So cases of two or three ways in turn are all met, and a test of few cases keeps one of them. A remainder shorter
    than a block may have none.
    """
    blocks = range(0, count, every)
    places = {start: (start // every + first) % min(every, count) for start in blocks}
    return {start + place for start, place in places.items() if start + place < count}


def one_of(every, items):
    """The items that ``--every`` takes: all cases of a test marked so, and never none of a test."""
    cases = {}
    for item in items:
        cases.setdefault(item.nodeid.split("[")[0], []).append(item)
    chosen = set()
    for first, of_one_test in enumerate(cases.values()):  # tests begin at different cases, so together they meet all
        if of_one_test[0].get_closest_marker("all_cases"):
            chosen.update(of_one_test)
        else:
            chosen.update(of_one_test[index] for index in choose_cases(len(of_one_test), every, first))
    return chosen


def pytest_collection_modifyitems(config, items):
    """``--tier`` and ``--every`` choose among the collected tests."""
    chosen = set(items)
    if config.option.tier != "all":
        fast = one_of(FAST_TIER_EVERY, [item for item in items if item.get_closest_marker("long") is None])
        chosen = fast if config.option.tier == "fast" else chosen - fast
    chosen = one_of(config.option.every, [item for item in items if item in chosen])
    if len(chosen) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = [item for item in items if item in chosen]


def count_compilation(event, duration, **_):
    if event == COMPILE_EVENT:
        num_compilations["so far"] += 1


jax.monitoring.register_event_duration_secs_listener(count_compilation)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Each test notes what is compiled from its setup to its teardown; the report of its teardown carries it."""
    item.stash[COMPILATIONS_BEFORE] = num_compilations["so far"]
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    if call.when == "teardown":
        item.user_properties.append(("compilations", num_compilations["so far"] - item.stash[COMPILATIONS_BEFORE]))
    return (yield)


def pytest_runtest_logreport(report):
    if report.when == "teardown":
        compilations_per_test[report.nodeid] += dict(report.user_properties).get("compilations", 0)


def pytest_terminal_summary(terminalreporter):
    total = sum(compilations_per_test.values())
    if total:
        terminalreporter.section(f"{total} compilations, most in")
        for name, count in compilations_per_test.most_common(10):
            terminalreporter.write_line(f"{count:6d} {name}")


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Compiled programs are dropped after each file: a process may map 65,530 pieces of memory, and each takes some."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="module")
def short_chunks():
    """Chunks of at most 8 steps, so that small problems have several and a remainder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tuning.SCAN_CONFIGS, "cpu", tuning.SCAN_CONFIGS["cpu"]._replace(max_chunk_steps=8))
        yield


@pytest.fixture
def data_folder() -> Path:
    """The folder of real data sets, from LSTM_JAX_DATA or beside the project."""
    folder = Path(os.environ.get("LSTM_JAX_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set LSTM_JAX_DATA")
    return folder


@pytest.fixture
def standard_promotion():
    """Flax and optax mix dtypes, which the tests forbid for our own code."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
