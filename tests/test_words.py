"""The words of the code: names that have been replaced, names that say nothing, one spelling."""

import ast
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("lstm_jax", "examples", "benchmarks", "tests")

REPLACED = {
    "Beams": "BeamState",
    "Decoded": "DecodeResult",
    "Fitted": "FitResult",
    "Kind": "Cell, which has init",
    "Monitored": "MonitorState",
    "Prefixes": "PrefixBeams",
    "Restored": "RestoredCheckpoint",
    "Searched": "SearchResult",
    "Together": "PopulationState",
    "TwoWay": "KernelWithTranspose",
    "by_progress": "schedule_by_progress",
    "cut_hidden": "shard_hidden",
    "half_cosine": "warmup_cosine",
    "init_cell": "cell.init",
    "is_patient": "has_patience_left",
    "lay_out": "prepare_kernel, to_kernel_layout",
    "made_up": "synthetic",
    "nudge": "perturb",
    "nudges": "perturbations",
    "recogniser": "ctc_recognizer",
    "scale_of": "fit_scaler",
    "standing": "rank_value",
    "written_out": "tanh_rational",
    "zero_memory": "zero_state",
}
"""Names that were this project's own, and the field's, which replaced them."""

REPLACED_IN_THE_PACKAGE = {
    "Asked": "CallSpec",
    "Fixed": "LinearOperands",
    "Flat": "a noun of what is flattened",
    "Form": "GateSpec",
    "How": "LoopConfig",
    "Known": "StepResiduals",
    "Moved": "TangentOutputs",
    "Moves": "TangentInputs",
    "Seen": "TracedState",
    "attends": "use_attention",
    "decodes": "use_decoder",
    "draws": "sample_*",
    "looks": "num_hops",
    "plus": "add_bias",
    "sliding": "sliding_windows",
    "undo": "inverse",
    "worse": "stale_validations",
}
"""Words too common to be forbidden in examples and tests."""

SAYS_NOTHING = {"again", "asked", "found", "how", "known", "more", "moved", "one", "own", "seen", "some", "there"}
"""A local name says what it holds."""

BRITISH = re.compile(
    r"\w*(?:optimis|normalis|recognis|regularis|initialis|vectoris|factoris|linearis|randomis|stabilis|serialis|summaris"
    r"|colour|behaviour|neighbour|favour|centr(?:e|ed|es)\b)\w*",
    re.IGNORECASE,
)


def files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")) if path != Path(__file__)]


def identifiers(path):
    """(line, name) of every name in a file, wherever it stands; strings and comments have none."""
    with path.open("rb") as lines:
        tokens = list(tokenize.tokenize(lines.readline))
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.NAME]


def bound_names(path):
    """(line, name) of what a file assigns and of the parameters of its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def report(path, line, text):
    return f"{path.relative_to(ROOT)}:{line}: {text}"


def assert_none(faults):
    assert not faults, f"{len(faults)} to mend\n" + "\n".join(faults)


@pytest.mark.all_cases
@pytest.mark.parametrize(
    ("folders", "replaced"), [(FOLDERS, REPLACED), (("lstm_jax",), REPLACED_IN_THE_PACKAGE)], ids=["all", "lstm_jax"]
)
def test_a_name_that_was_replaced_is_gone(folders, replaced):
    assert_none(
        [
            report(path, line, f"{name}, now {replaced[name]}")
            for path in files(*folders)
            for line, name in identifiers(path)
            if name in replaced
        ]
    )


def test_a_local_name_says_what_it_holds():
    paths = files("lstm_jax", "examples", "benchmarks")
    assert_none(
        [report(path, line, name) for path in paths for line, name in bound_names(path) if name in SAYS_NOTHING]
    )


def test_the_spelling_is_american():
    faults = [report(path, 1, "its name") for path in files(*FOLDERS) if BRITISH.search(path.stem)]
    for path in files(*FOLDERS):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            faults += [report(path, number, match.group()) for match in BRITISH.finditer(line)]
    assert_none(faults)


def test_the_lists_find_what_they_forbid():
    """Names as they stand in this file, which the other tests leave out."""
    path = Path(__file__)
    assert {"identifiers", "faults"} <= {name for _, name in identifiers(path)}
    assert {"folders", "replaced", "faults", "path", "number"} <= {name for _, name in bound_names(path)}
    assert BRITISH.findall("a Coloured optimiser, centred; color, optimizer, center, central") == [
        "Coloured",
        "optimiser",
        "centred",
    ]
