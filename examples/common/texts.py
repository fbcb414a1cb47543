"""Reads text files and trains tokenizers; error messages name command-line flag, file and line."""

import gzip
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

UNKNOWN, START, END = "<unk>", "<s>", "</s>"
"""The first three tokens of every vocabulary, with codes 0, 1 and 2."""


def read_text(flag: str, path: Path, encoding: str = "utf-8") -> str:
    """Reads a text file, with \\n as line end.

    Args:
        flag: the command-line flag that error messages name.
        path: the file; decompressed if its name ends in .gz.
        encoding: its encoding; "bytes" makes each byte a character and keeps the line ends.
    Raises:
        SystemExit: the file is absent, empty, binary or in another encoding.
    """
    if not path.is_file():
        raise SystemExit(f"{flag}: {path} is not a file")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SystemExit(f"{flag}: {path} cannot be unpacked: {error}") from None
    if encoding == "bytes":
        return data.decode("latin-1")
    try:
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except LookupError:
        raise SystemExit(
            f"--set encoding: got {encoding!r}, which Python does not know; want utf-8, latin-1, ..."
        ) from None
    except UnicodeDecodeError as error:
        raise SystemExit(
            f"{flag}: {path} is not {encoding} text ({error.reason} at byte {error.start}); "
            "if it is text in another encoding say so: --set encoding=latin-1"
        ) from None
    if not text.strip():
        raise SystemExit(f"{flag}: {path} is empty")
    if "\0" in text:
        raise SystemExit(f"{flag}: {path} looks binary: it holds a zero byte at {text.index(chr(0))}")
    return text.replace("\r\n", "\n")


def read_lines(flag: str, path: Path, encoding: str = "utf-8") -> list[str]:
    """Reads the lines of a text file with ``read_text``; only \\n ends a line."""
    return read_text(flag, path, encoding).removesuffix("\n").split("\n")


class LabeledTexts(NamedTuple):
    """Texts with their labels and their places in a file."""

    texts: list[str]
    labels: list[str]
    places: list[str]
    """file and line of each text, for error messages"""


def read_labeled(flag: str, path: Path, encoding: str = "utf-8") -> LabeledTexts:
    """Reads a file of labeled texts: on each line a label, a tab or else a blank, and a text.

    Args:
        flag: the command-line flag that error messages name.
        path: the file; empty lines are skipped.
        encoding: its encoding.
    Raises:
        SystemExit: a line lacks label or text.
    """
    rows = LabeledTexts([], [], [])
    for number, line in enumerate(read_lines(flag, path, encoding), start=1):
        if not line.strip():
            continue
        label, _, text = line.partition("\t" if "\t" in line else " ")
        if not label.strip() or not text.strip():
            raise SystemExit(f"{flag}: {path}, line {number}: got {line!r}, want a label, a tab or blank, and a text")
        for column, value in zip(rows, (text.strip(), label.strip(), f"{path}, line {number}"), strict=True):
            column.append(value)
    return rows


def split_rows(rows: LabeledTexts, share: float, seed: int) -> tuple[LabeledTexts, LabeledTexts]:
    """Splits rows at random into two parts; the first keeps at least one row of each label.

    Args:
        rows: the rows.
        share: share of the second part.
        seed: seed of the split.
    Returns:
        (first, second).
    """
    order = np.random.default_rng(seed).permutation(len(rows.labels))
    kept_row = {rows.labels[row]: row for row in order[::-1]}
    free_rows = [row for row in order if row != kept_row[rows.labels[row]]]
    second_part = set(free_rows[: max(1, round(share * len(order)))])

    def select(in_second: bool) -> LabeledTexts:
        """Returns the rows of one part, in their order."""
        return LabeledTexts(
            *([value for row, value in enumerate(column) if (row in second_part) == in_second] for column in rows)
        )

    return select(False), select(True)


def label_numbers(flag: str, rows: LabeledTexts, names: Sequence[str]) -> np.ndarray:
    """Converts labels to their indices in ``names``.

    Args:
        flag: the command-line flag that the error message names.
        rows: N labeled texts.
        names: the classes.
    Returns:
        Class indices ``[N]``.
    Raises:
        SystemExit: a label is not in ``names``.
    """
    class_index = {name: index for index, name in enumerate(names)}
    for label, place in zip(rows.labels, rows.places, strict=True):
        if label not in class_index:
            shown = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
            raise SystemExit(f"{flag}: {place}: got label {label!r}, which no training text has: {shown}")
    return np.array([class_index[label] for label in rows.labels], np.int32)


def train_word_tokenizer(texts: Iterable[str], min_count: int, lower: bool = True) -> Tokenizer:
    """Trains a tokenizer whose tokens are words, separated by blanks; the most frequent have the lowest codes.

    Args:
        texts: the texts to count.
        min_count: occurrences from which a word is a token.
        lower: whether to convert texts to lower case.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *([normalizers.Lowercase()] if lower else [])])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(
        min_frequency=min_count, vocab_size=10**9, special_tokens=[UNKNOWN, START, END], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_subword_tokenizer(texts: Iterable[str], max_tokens: int) -> Tokenizer:
    """Trains a tokenizer of lower-case subwords by byte-pair encoding (Sennrich et al. 2016).

    Args:
        texts: the texts to train on.
        max_tokens: size of the vocabulary, at most.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=max_tokens, special_tokens=[UNKNOWN, START, END], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Returns the token codes of each text, ``[T]`` each."""
    return [np.array(encoding.ids, np.int32) for encoding in tokenizer.encode_batch(list(texts))]
