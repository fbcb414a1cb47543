"""Reads Python source and labels each character with features from Python's own tokenizer."""

import io
import tokenize
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common import texts

MIN_CHARACTERS = 400
FSTRING_START, FSTRING_END = (getattr(tokenize, f"FSTRING_{end}", None) for end in ("START", "END"))
"""Token types of f-strings from Python 3.12 on; None before, when an f-string is one STRING token."""
OPENING_BRACKETS, CLOSING_BRACKETS = "([{", ")]}"


class Token(NamedTuple):
    """A token and its span in the text."""

    type: int
    string: str
    start: int
    """index of its first character in the text"""
    end: int
    """index after its last character"""


def features(text: str) -> dict[str, np.ndarray]:
    """Returns one array ``[T]`` per feature, aligned with the characters of Python source.

    - "inside a string": True from the first character of a string literal, its prefix included, to the one before its
      last quote.
    - "inside a comment": True from the ``#`` to the end of the line.
    - "brackets open": the number of open brackets after the character; those inside strings do not count.
    - "indentation": the number of blanks that begin the character's line.
    - "place in the line": the number of characters before it in its line.

    Raises:
        tokenize.TokenError, SyntaxError: the text is not Python source.
    """
    lines = [line + "\n" for line in text.split("\n")]  # as the tokenizer counts them
    line_lengths = [len(line) for line in lines]
    tokens = _tokenize(text, line_lengths)
    code_tokens = _merge_fstrings(tokens)
    strings = [(token.start, token.end - 1) for token in code_tokens if token.type == tokenize.STRING]
    comments = [(token.start, token.end) for token in tokens if token.type == tokenize.COMMENT]
    indents = [len(line) - len(line.lstrip(" ")) for line in lines]
    columns = np.concatenate([np.arange(length) for length in line_lengths])
    return {
        "inside a string": _mark_spans(strings, len(text)),
        "inside a comment": _mark_spans(comments, len(text)),
        "brackets open": _count_open_brackets(code_tokens, len(text)),
        "indentation": np.repeat(indents, line_lengths)[: len(text)],
        "place in the line": columns[: len(text)],
    }


def read(paths: Sequence[Path], max_characters: int) -> tuple[str, dict[str, np.ndarray]]:
    """Reads Python files, joined in order and cut to a length, with the features of each character.

    Args:
        paths: the files.
        max_characters: the length to which the joined text is cut.
    Returns:
        (text, features): T characters, and an array ``[T]`` per feature.
    Raises:
        SystemExit: the text is shorter than MIN_CHARACTERS, or a file is not Python source.
    """
    files = [texts.read_text("--data", path, "utf-8") for path in paths]
    text = "".join(files)[:max_characters]
    if len(text) < MIN_CHARACTERS:
        raise SystemExit(f"--data, --set characters: got {len(text)}, want at least {MIN_CHARACTERS}")
    file_features = []
    for path, file_text in zip(paths, files, strict=True):
        try:
            file_features.append(features(file_text))
        except (tokenize.TokenError, SyntaxError) as error:
            raise SystemExit(f"--data: {path} is not Python source: {error}") from None
    names = file_features[0]
    return text, {name: np.concatenate([arrays[name] for arrays in file_features])[: len(text)] for name in names}


def _tokenize(text: str, line_lengths: Sequence[int]) -> list[Token]:
    """Returns the tokens of a text with their spans, given the length of each line with its line end."""
    line_starts = np.cumsum([0, *line_lengths])
    return [
        Token(
            token.type,
            token.string,
            *(int(line_starts[line - 1]) + column for line, column in (token.start, token.end)),
        )
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    ]


def _merge_fstrings(tokens: Iterable[Token]) -> list[Token]:
    """Replaces the tokens of each f-string, together with all that it encloses, by one STRING token."""
    merged: list[Token] = []
    open_starts: list[int] = []
    for token in tokens:
        if token.type == FSTRING_START:
            open_starts.append(token.start)
        elif token.type == FSTRING_END:
            start = open_starts.pop()
            if not open_starts:
                merged.append(Token(tokenize.STRING, "", start, token.end))
        elif not open_starts:
            merged.append(token)
    return merged


def _mark_spans(spans: Iterable[tuple[int, int]], length: int) -> np.ndarray:
    """Returns booleans ``[length]``, True from the start of each span to before its end."""
    inside = np.zeros(length, bool)
    for start, end in spans:
        inside[start:end] = True
    return inside


def _count_open_brackets(tokens: Iterable[Token], length: int) -> np.ndarray:
    """Returns the number of brackets that are open after each character, ``[length]``."""
    changes = np.zeros(length, int)
    for token in tokens:
        if token.type == tokenize.OP and token.string in OPENING_BRACKETS:
            changes[token.start] += 1
        elif token.type == tokenize.OP and token.string in CLOSING_BRACKETS:
            changes[token.start] -= 1
    return np.cumsum(changes)
