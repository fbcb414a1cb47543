"""Docstrings: what each public function takes and gives, and that every example in them runs."""

import doctest
import importlib
import inspect
import re
import types
from pathlib import Path

import jax
import numpy as np
import pytest

import lstm_jax as lj

PACKAGE = Path(lj.__file__).parent
SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Example|Reference|References|Note):", re.MULTILINE)
ENTRY = re.compile(r"^\*{0,2}(\w+)(?: \([^)]*\))?:", re.MULTILINE)
MIN_WORDS = 4
CALLED_BY_USERS = ("decoding", "diagnostics", "interop", "models", "training")
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>>" in path.read_text()
)


def public_names(module):
    """``__all__``, or without one what the module itself defines and does not hide."""
    defined_here = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    return getattr(module, "__all__", [name for name in defined_here if not name.startswith("_")])


def public_functions(module):
    """(name as users write it, function) of a module and of the modules that it offers."""
    for name in public_names(module):
        value = inspect.getattr_static(module, name, None)
        value = getattr(module, name) if value is None else value
        if isinstance(value, types.ModuleType):
            yield from public_functions(value)
        elif callable(value) and inspect.isroutine(inspect.unwrap(value)):
            yield f"{module.__name__}.{name}", value


FUNCTIONS = dict(public_functions(lj))


def sections(docstring):
    """The text of each section by its title; what comes before the first is called ''."""
    parts = SECTION.split(docstring)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def described_arguments(text):
    """The names of the entries under ``Args:``, which are those least indented."""
    return set(ENTRY.findall(inspect.cleandoc("\n" + text)))


def first_line_faults(docstring):
    """A first paragraph that is a sentence: a capital, an end, and words enough to have a subject and a verb."""
    line = " ".join(docstring.split("\n\n")[0].split())
    faults = []
    if not line[:1].isupper() or line[-1:] not in (".", ":"):
        faults.append(f"its first line begins with no capital or ends with neither '.' nor ':': {line!r}")
    if len(line.split()) < MIN_WORDS or line.startswith("The same."):
        faults.append(f"its first line is no sentence that stands alone: {line!r}")
    return faults


def docstring_faults(function):
    """What the docstring of a public function lacks."""
    docstring, signature = inspect.getdoc(function) or "", inspect.signature(function)
    faults, text = first_line_faults(docstring), sections(docstring)
    parameters = set(signature.parameters)
    if len(parameters) >= 2:
        described = described_arguments(text.get("Args", ""))
        faults += [f"Args: lacks {name}" for name in signature.parameters if name not in described]
        faults += [f"Args: describes {name}, which is no parameter" for name in sorted(described - parameters)]
        if signature.return_annotation not in (None, "None") and "Returns" not in text:
            faults.append("has no Returns:")
    return faults


def has_example(function):
    return ">>>" in sections(inspect.getdoc(function) or "").get("Example", "")


def test_public_functions_are_found():
    assert {
        "lstm_jax.lstm",
        "lstm_jax.lstm_cell",
        "lstm_jax.training.fit",
        "lstm_jax.interop.torch.import_lstm",
    } <= set(FUNCTIONS)


def test_a_docstring_says_what_goes_in_and_what_comes_out():
    faults = [f"{name}: {fault}" for name, function in FUNCTIONS.items() for fault in docstring_faults(function)]
    assert not faults, f"{len(faults)} faults\n" + "\n".join(faults)


def test_a_function_that_users_call_has_an_example():
    packages = tuple(f"lstm_jax.{name}." for name in CALLED_BY_USERS)
    called = [name for name in FUNCTIONS if name.startswith(packages) or name.count(".") == 1]
    lacking = [name for name in called if not has_example(FUNCTIONS[name])]
    assert not lacking, f"{len(lacking)} functions without an Example: section of doctest lines\n" + "\n".join(lacking)


@pytest.mark.all_cases
@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, tmp_path, monkeypatch):
    """As users run them, without the tests' 64 bits and strict promotion; each begins with nothing imported."""
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    examples = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module, globs={}) if test.examples]
    written = len(re.findall(r"^\s*>>> ", Path(module.__file__).read_text(), re.MULTILINE))
    assert sum(len(test.examples) for test in examples) == written, "an example lies where doctest does not look"
    printed = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    with jax.enable_x64(False), np.printoptions():
        for test in examples:
            runner.run(test, out=printed.append)
    assert not runner.summarize(verbose=False).failed, "".join(printed)


def a_bad_one(first, second) -> int:
    """adds.

    Args:
        first: a number.
        third: none.
    """


def test_what_is_wrong_is_found():
    assert docstring_faults(a_bad_one) == [
        "its first line begins with no capital or ends with neither '.' nor ':': 'adds.'",
        "its first line is no sentence that stands alone: 'adds.'",
        "Args: lacks second",
        "Args: describes third, which is no parameter",
        "has no Returns:",
    ]
    assert docstring_faults(described_arguments) == []
    assert not has_example(a_bad_one)
