"""The command line of an example: few flags, and ``--set NAME=VALUE`` for the settings at the top of its file.

An example declares its settings, adds the flags of its own and gets one namespace that holds both:

    class Settings(NamedTuple):
        '''Settings of the model and its training; --set NAME=VALUE changes one.'''

        hidden: Count = 320
        dropout: Rate = 0.0
        minutes: Positive | None = None

    def parse_options(arguments: list[str] | None) -> argparse.Namespace:
        parser = new_parser(__doc__)
        parser.add_argument("--data", type=Path, help="text file (default: ...)")
        return parse(parser, arguments, __file__, Settings, smoke={"steps": 3, "hidden": 16})

``options.hidden`` is what --set says, else what ``smoke`` says where --smoke is given, else the default.
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
"""Flags and settings that differ between runs of one row of RESULTS.md and are no part of its command."""
MODEL_FLAGS = "save", "load", "smoke", "record"
COMMON_FLAGS: dict[str, dict[str, Any]] = {
    "save": {"type": Path, "metavar": "FOLDER", "help": "folder to keep the model in"},
    "load": {"type": Path, "metavar": "FOLDER", "help": "folder that --save wrote: uses its model, trains nothing"},
    "resume": {"action": "store_true", "help": "go on from the newest checkpoint in --save"},
    "smoke": {"action": "store_true", "help": "a few steps only, to see that everything runs"},
    "record": {"type": Path, "metavar": "FILE", "help": "JSON file to write the result to"},
}


def whole(text: str) -> int:
    """Reads an integer of at least 1."""
    return _checked(text, int, lambda value: value >= 1, "a whole number of at least 1")


def positive(text: str) -> float:
    """Reads a number above 0."""
    return _checked(text, float, lambda value: value > 0, "a number above 0")


def rate(text: str) -> float:
    """Reads a share from 0 to below 1."""
    return _checked(text, float, lambda value: 0 <= value < 1, "a number from 0 to below 1")


def output_path(text: str) -> Path:
    """Reads the name of a file to write, whose folder must exist before training begins."""
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
    """Reads the command line into a namespace of flags and settings.

    The namespace also holds ``example``, the file's name, ``doc``, its docstring, and ``command``, the command that
    repeats the run, in which files are named without their folders.

    Args:
        parser: the parser with the example's own flags.
        arguments: the words of the command line; None means those of the process.
        file: ``__file__`` of the example.
        settings: a NamedTuple class; a ``seed`` and a ``picture`` are added to its fields.
        smoke: flags and settings that --smoke replaces where the command line does not give them.
        flags: names in COMMON_FLAGS of the common flags that the example has; --set is always there.
    """
    example, words = Path(file).stem, sys.argv[1:] if arguments is None else arguments
    kinds = {"seed": int, "picture": OutputPath, **get_type_hints(settings, include_extras=True)}
    fields = settings._field_defaults  # type: ignore[attr-defined]  # of a NamedTuple
    defaults = {"seed": 0, "picture": Path(f"{example}.png"), **fields}
    for name in flags:
        parser.add_argument(f"--{name}", **COMMON_FLAGS[name])
    _add_set(parser, defaults)
    parser.set_defaults(**defaults, example=example, doc=parser.description)
    if smoke and "--smoke" in words:
        parser.set_defaults(**smoke)
    options = parser.parse_args(words)
    for text in options.set:
        _set(parser, options, kinds, text)
    if getattr(options, "resume", False) and options.save is None:
        parser.error("--resume: got no --save, want the folder of the run to go on with")
    options.command = _command(example, words)
    return options


def _add_set(parser: argparse.ArgumentParser, defaults: Mapping[str, Any]) -> None:
    """Adds --set, and the list of settings to the end of the help."""
    use = "changes settings, listed below"
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help=use)
    listed = "settings: " + " ".join(f"{name}={value}" for name, value in defaults.items())
    parser.epilog = textwrap.fill(listed, 100, break_on_hyphens=False, subsequent_indent="  ")


def check_texts(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends the program where --load has no --text to work on, or a --text holds no word."""
    if options.load and not options.text:
        parser.error("--load: got no --text, want a text for the model")
    if any(not text.strip() for text in options.text):
        parser.error("--text: got no word, want at least one")


def _set(parser: argparse.ArgumentParser, options: argparse.Namespace, kinds: dict[str, Any], text: str) -> None:
    """Changes one setting by ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not equals:
        parser.error(f"--set: got {text!r}, want NAME=VALUE")
    if name not in kinds:
        parser.error(f"--set: got no setting {name!r}, want one of {', '.join(kinds)}")
    try:
        setattr(options, name, _convert(kinds[name], value))
    except argparse.ArgumentTypeError as error:
        parser.error(f"--set {name}: {error}")


def _convert(kind: Any, text: str) -> Any:
    """Reads the value of a setting as its annotation says; "none" where that allows None."""
    if get_origin(kind) is Annotated:
        return get_args(kind)[1](text)
    if get_origin(kind) is Literal:
        return _checked(text, str, lambda value: value in get_args(kind), f"one of {', '.join(get_args(kind))}")
    if NoneType in get_args(kind):
        (kind,) = (part for part in get_args(kind) if part is not NoneType)
        return None if text.lower() == "none" else _convert(kind, text)
    if kind is bool:
        return _checked(text.lower(), str, lambda value: value in ("true", "false"), "true or false") == "true"
    nouns = {int: "a whole number", float: "a number", str: "a text", Path: "a path"}
    return _checked(text, kind, lambda value: True, nouns[kind])


def _checked(text: str, kind: Callable[[str], Any], is_valid: Callable[[Any], bool], wanted: str) -> Any:
    """Reads a value, or says what was wanted."""
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not is_valid(value):
        raise argparse.ArgumentTypeError(f"got {text}, want {wanted}")
    return value


def _command(example: str, words: Sequence[str]) -> str:
    """Writes the command that repeats the run, but for the files that it writes and its seed."""
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
