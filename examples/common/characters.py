"""Reads a text as integer codes of its characters, split into training, validation and test part."""

import argparse
import math
import re
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from common import texts
from lstm_jax import training

SMOKE_CHARACTERS = 200_000
"""characters that --smoke reads"""


class Corpus(NamedTuple):
    """The three parts of a text; the code of a character is its index in the alphabet."""

    alphabet: list[str]
    train: np.ndarray
    """``[T]``, all codes before the validation part"""
    valid: np.ndarray
    """``[T]``, a tenth of the text, before the test part"""
    test: np.ndarray
    """``[T]``, the last ``test_share`` of the text; may be empty"""


def read_corpus(options: argparse.Namespace) -> Corpus:
    """Reads a text, by default the standard library's source, and splits it into three parts.

    Args:
        options: the flags ``data``, ``prompt`` and ``smoke``; the settings ``batch``, ``window``, ``test_share`` and
            ``encoding``.
    Returns:
        The corpus.
    Raises:
        SystemExit: a part is too short, or the prompt has a character that the text lacks.
    """
    batch, window = options.batch, options.window
    if options.data is None:
        files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        text = "".join(file.read_text(encoding="utf-8") for file in files)
    else:
        text = texts.read_text("--data", options.data, options.encoding)
    text = text[:SMOKE_CHARACTERS] if options.smoke else text
    test_start = len(text) - int(options.test_share * len(text))
    valid_start = test_start - len(text) // 10
    min_characters = batch * window + 1
    if valid_start < min_characters:
        raise SystemExit(
            f"--data: {options.data} has {len(text):,} characters, too short: one step of batch={batch} streams of "
            f"window={window} characters needs {math.ceil(min_characters * 10 / 9):,}; use a longer text or --set "
            "smaller ones"
        )
    if 0 < len(text) - test_start <= window:
        raise SystemExit(f"--set test_share: {len(text) - test_start} characters, want more than window={window}")
    alphabet = sorted(set(text))
    code_by_character = {character: code for code, character in enumerate(alphabet)}
    codes = np.array([code_by_character[character] for character in text], np.int32)
    encode(alphabet, options.prompt, options.encoding)  # checks the prompt before training
    train, valid, test = np.split(codes, [valid_start, test_start])
    print(f"{len(train):,} characters to train on, {len(valid):,} held out, {len(alphabet)} different ones")
    return Corpus(alphabet, train, valid, test)


def encode(alphabet: list[str], text: str | None, encoding: str = "utf-8", flag: str = "--prompt") -> np.ndarray:
    """Converts a text to character codes.

    Args:
        alphabet: the characters, by code.
        text: the text; empty or None means a line break.
        encoding: "bytes" makes each byte of the UTF-8 text a character; other values have no effect.
        flag: the command-line flag that the error message names.
    Returns:
        Codes ``[T]``.
    Raises:
        SystemExit: a character is not in the alphabet.
    """
    if not text:
        text = "\n" if "\n" in alphabet else alphabet[0]
    if encoding == "bytes":
        text = text.encode().decode("latin-1")
    unknown = sorted(set(text) - set(alphabet))
    if unknown:
        shown = text if len(text) < 80 else f"{text[:80]}..."
        raise SystemExit(f"{flag}: got {shown!r}, want characters that occur in the corpus; these do not: {unknown}")
    return np.array([alphabet.index(character) for character in text], np.int32)


def decode(alphabet: list[str], codes: Iterable[int], encoding: str = "utf-8") -> str:
    """Converts character codes to text; with encoding "bytes" each code is a byte of UTF-8."""
    text = "".join(alphabet[code] for code in codes)
    return text.encode("latin-1").decode(errors="replace") if encoding == "bytes" else text


def stream_held_out(
    codes: np.ndarray, options: argparse.Namespace, num_devices: int = 1
) -> tuple[training.Stream, int]:
    """Divides a held-out text into parallel streams, at most ``batch`` and each at least one window long.

    Args:
        codes: the text, ``[T]``.
        options: the settings ``batch`` and ``window``.
        num_devices: the number of streams is a multiple of this.
    Returns:
        (stream, num_streams).
    """
    max_streams = min(options.batch, max(1, (len(codes) - 1) // options.window))
    num_streams = max_streams - max_streams % num_devices
    return training.Stream(codes, num_streams, min(options.window, len(codes) - 1)), num_streams


def join_processes(processes: str | None) -> None:
    """Connects this process to the others that share a mesh.

    Args:
        processes: "HOST:PORT,NUMBER,INDEX": address of process 0, number of processes, index of this one. None means a
            single process.
    """
    if processes is None:
        return
    match = re.fullmatch(r"(\S+:\d+),(\d+),(\d+)", processes)
    if match is None:
        raise SystemExit(f"--set processes: got {processes}, want for example localhost:1234,2,0")
    jax.distributed.initialize(match[1], int(match[2]), int(match[3]))
