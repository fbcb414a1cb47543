"""Python source, and what Python's own tokenizer says of each character."""

import io
import tokenize
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common import texts

MIN_CHARACTERS = 400
FSTRING_START, FSTRING_END = (getattr(tokenize, f"FSTRING_{end}", None) for end in ("START", "END"))
"""The tokens of f-strings from Python 3.12 on; before, they are strings."""


def features(text: str) -> dict[str, np.ndarray]:
    """What holds after each character has been read ``[T]``: strings, comments, brackets, indentation, column."""
    lines = [line + "\n" for line in text.split("\n")]  # as the tokenizer counts them
    starts = np.cumsum([0, *map(len, lines)])
    inside = {name: np.zeros(len(text), bool) for name in ("inside a string", "inside a comment")}
    depth = np.zeros(len(text) + 1, int)
    opened = nested = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        first, last = (starts[line - 1] + column for line, column in (token.start, token.end))
        if token.type in (FSTRING_START, FSTRING_END):
            opened = opened if nested else first
            nested += 1 if token.type == FSTRING_START else -1
        if token.type in (tokenize.STRING, FSTRING_END) and not nested:  # after its last quote a string is over
            inside["inside a string"][opened if token.type == FSTRING_END else first : last - 1] = True
        if token.type == tokenize.COMMENT:
            inside["inside a comment"][first:last] = True
        if token.type == tokenize.OP and token.string in "([{)]}" and not nested:
            depth[first:] += 1 if token.string in "([{" else -1
    indents = [len(line) - len(line.lstrip(" ")) for line in lines]
    return {
        **inside,
        "brackets open": depth[:-1],
        "indentation": np.repeat(indents, [*map(len, lines)])[: len(text)],
        "place in the line": np.concatenate([np.arange(len(line)) for line in lines])[: len(text)],
    }


def read(paths: Sequence[Path], max_characters: int) -> tuple[str, dict[str, np.ndarray]]:
    """Reads the first characters of files one after the other, and what holds at each."""
    files = [texts.read_text("--data", path, "utf-8") for path in paths]
    text = "".join(files)[:max_characters]
    if len(text) < MIN_CHARACTERS:
        raise SystemExit(f"--data, --set characters: got {len(text)}, want at least {MIN_CHARACTERS}")
    parts = []
    for path, file_text in zip(paths, files, strict=True):
        try:
            parts.append(features(file_text))
        except (tokenize.TokenError, SyntaxError) as error:
            raise SystemExit(f"--data: {path} is not Python source: {error}") from None
    return text, {name: np.concatenate([part[name] for part in parts])[: len(text)] for name in parts[0]}
