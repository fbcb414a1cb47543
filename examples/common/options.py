"""Parses the command line of an example: flags, and ``--set NAME=VALUE`` for the settings at the top of its file.

An example declares its settings, adds its own flags, and gets one namespace that contains both:

    class Settings(NamedTuple):
        '''Settings of the model and its training; --set NAME=VALUE changes one.'''

        hidden: Count = 320
        dropout: Rate = 0.0
        minutes: Positive | None = None

    def parse_options(arguments: list[str] | None) -> argparse.Namespace:
        parser = new_parser(__doc__)
        parser.add_argument("--data", type=Path, help="text file (default: ...)")
        return parse(parser, arguments, __file__, Settings, smoke={"steps": 3, "hidden": 16})

``options.hidden`` is the value of --set if given, else that of ``smoke`` under --smoke, else the default.
"""

import argparse
import os
import shlex
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

UNRECORDED_FLAGS = "--record", "--save"
UNRECORDED_SETTINGS = "seed", "picture"
"""Flags and settings that a record's command omits, since they differ between the runs of one row of RESULTS.md."""
MODEL_FLAGS = "save", "load", "smoke", "record"
COMMON_FLAGS: dict[str, dict[str, Any]] = {
    "save": {"type": Path, "metavar": "FOLDER", "help": "folder to keep the model in"},
    "load": {"type": Path, "metavar": "FOLDER", "help": "folder that --save wrote: uses its model, trains nothing"},
    "resume": {"action": "store_true", "help": "go on from the newest checkpoint in --save"},
    "smoke": {"action": "store_true", "help": "a few steps only, to see that everything runs"},
    "record": {"type": Path, "metavar": "FILE", "help": "JSON file to write the result to"},
}


def whole(text: str) -> int:
    """Parses an integer of at least 1."""
    return _parse_checked(text, int, lambda value: value >= 1, "a whole number of at least 1")


def positive(text: str) -> float:
    """Parses a number above 0."""
    return _parse_checked(text, float, lambda value: value > 0, "a number above 0")


def rate(text: str) -> float:
    """Parses a rate from 0 to below 1."""
    return _parse_checked(text, float, lambda value: 0 <= value < 1, "a number from 0 to below 1")


def output_path(text: str) -> Path:
    """Parses the path of a file to write; its folder must exist."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path.parent} is not a folder, want one that exists")
    return path


Count = Annotated[int, whole]
Positive = Annotated[float, positive]
Rate = Annotated[float, rate]
OutputPath = Annotated[Path, output_path]


def new_parser(doc: str | None) -> argparse.ArgumentParser:
    """Makes a parser whose help begins with the example's docstring."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def parse(
    parser: argparse.ArgumentParser,
    arguments: list[str] | None,
    file: str,
    settings: type,
    *,
    smoke: Mapping[str, Any] | None = None,
    flags: Sequence[str] = MODEL_FLAGS,
) -> argparse.Namespace:
    """Parses the command line into a namespace of flags and settings.

    The namespace also has ``example``, the name of the file, ``doc``, its docstring, and ``command``, the command that
    repeats the run, with the names of files without their folders.

    Args:
        parser: the parser with the example's own flags.
        arguments: the command-line arguments; None means those of the process.
        file: ``__file__`` of the example.
        settings: a NamedTuple class; the settings ``seed`` and ``picture`` are added to its fields.
        smoke: values that --smoke gives to flags and settings unless the command line sets them.
        flags: names of the common flags to add, keys of COMMON_FLAGS; --set is always added.
    Returns:
        The namespace.
    """
    example = Path(file).stem
    words = sys.argv[1:] if arguments is None else arguments
    annotations = {"seed": int, "picture": OutputPath, **get_type_hints(settings, include_extras=True)}
    fields = settings._field_defaults  # type: ignore[attr-defined]  # of a NamedTuple
    defaults = {"seed": 0, "picture": Path(f"{example}.png"), **fields}
    for name in flags:
        parser.add_argument(f"--{name}", **COMMON_FLAGS[name])
    _add_set_flag(parser, defaults)
    parser.set_defaults(**defaults, example=example, doc=parser.description)
    if smoke and "--smoke" in words:
        parser.set_defaults(**smoke)
    options = parser.parse_args(words)
    for assignment in options.set:
        _apply_assignment(parser, options, annotations, assignment)
    if getattr(options, "resume", False) and options.save is None:
        parser.error("--resume: got no --save, want the folder of the run to go on with")
    options.command = _format_command(example, words)
    return options


def _add_set_flag(parser: argparse.ArgumentParser, defaults: Mapping[str, Any]) -> None:
    """Adds --set to a parser, and the settings with their defaults to the end of its help."""
    summary = "changes settings, listed below"
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help=summary)
    listed = "settings: " + " ".join(f"{name}={value}" for name, value in defaults.items())
    parser.epilog = textwrap.fill(listed, 100, break_on_hyphens=False, subsequent_indent="  ")


def check_texts(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the program if --load is given without --text, or if a --text is blank."""
    if options.load and not options.text:
        parser.error("--load: got no --text, want a text for the model")
    if any(not text.strip() for text in options.text):
        parser.error("--text: got no word, want at least one")


def _apply_assignment(
    parser: argparse.ArgumentParser, options: argparse.Namespace, annotations: dict[str, Any], assignment: str
) -> None:
    """Sets one setting in ``options`` from ``NAME=VALUE``, by the annotation of its name."""
    name, equals, value = assignment.partition("=")
    if not equals:
        parser.error(f"--set: got {assignment!r}, want NAME=VALUE")
    if name not in annotations:
        parser.error(f"--set: got no setting {name!r}, want one of {', '.join(annotations)}")
    try:
        setattr(options, name, _parse_value(annotations[name], value))
    except argparse.ArgumentTypeError as error:
        parser.error(f"--set {name}: {error}")


def _parse_value(annotation: Any, text: str) -> Any:
    """Parses the value of a setting by its annotation; "none" means None where the annotation allows it."""
    choices = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return choices[1](text)
    if get_origin(annotation) is Literal:
        return _parse_checked(text, str, lambda value: value in choices, f"one of {', '.join(choices)}")
    if NoneType in choices:
        (value_type,) = (choice for choice in choices if choice is not NoneType)
        return None if text.lower() == "none" else _parse_value(value_type, text)
    if annotation is bool:
        return _parse_checked(text.lower(), str, lambda value: value in ("true", "false"), "true or false") == "true"
    nouns = {int: "a whole number", float: "a number", str: "a text", Path: "a path"}
    return _parse_checked(text, annotation, lambda value: True, nouns[annotation])


def _parse_checked(text: str, convert: Callable[[str], Any], is_valid: Callable[[Any], bool], expectation: str) -> Any:
    """Converts a text and checks the value; an ArgumentTypeError states the expectation."""
    try:
        value = convert(text)
    except ValueError:
        value = None
    if value is None or not is_valid(value):
        raise argparse.ArgumentTypeError(f"got {text}, want {expectation}")
    return value


def _format_command(example: str, words: Sequence[str]) -> str:
    """Returns the command that repeats a run, without its seed and the files that it writes."""
    groups: list[list[str]] = []
    for word in words:
        if word.startswith("--") or not groups:
            groups.append([])
        groups[-1].append(word)
    kept = ["python", f"examples/{example}.py"]
    for flag, *values in groups:
        if flag == "--set":
            values = [value for value in values if value.partition("=")[0] not in UNRECORDED_SETTINGS]
        if flag.partition("=")[0] not in UNRECORDED_FLAGS and (values or flag != "--set"):
            kept += [flag, *(Path(value).name if os.path.exists(value) else value for value in values)]
    return shlex.join(kept)
