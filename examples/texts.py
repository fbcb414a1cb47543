"""Text files into lists, and words into numbers; what cannot serve is told by option, file and line."""

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

UNKNOWN, START, END = "<unk>", "<s>", "</s>"
"""Always the first three of a vocabulary, so that their codes are 0, 1 and 2."""


def read_text(option: str, path: Path, encoding: str = "utf-8") -> str:
    """The whole file, unpacked if it ends in .gz; line ends as \\n; of encoding "bytes" each byte is one character."""
    if not path.is_file():
        raise SystemExit(f"{option}: {path} is not a file")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError) as error:
        raise SystemExit(f"{option}: {path} cannot be unpacked: {error}") from None
    if not data.strip():
        raise SystemExit(f"{option}: {path} is empty")
    if encoding == "bytes":
        return data.decode("latin-1")
    try:
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        raise SystemExit(
            f"{option}: {path} is not {encoding} text ({error.reason} at byte {error.start}); "
            "if it is text in another encoding say so: --encoding latin-1"
        ) from None
    if "\0" in text:
        raise SystemExit(f"{option}: {path} looks binary: it holds a zero byte at {text.index(chr(0))}")
    return text.replace("\r\n", "\n")


def read_lines(option: str, path: Path, encoding: str = "utf-8") -> list[str]:
    """The lines of a file; only \\n ends one."""
    return read_text(option, path, encoding).removesuffix("\n").split("\n")


class Labelled(NamedTuple):
    """Texts and what each is."""

    texts: list[str]
    labels: list[str]


def read_labelled(option: str, path: Path, encoding: str = "utf-8") -> Labelled:
    """Lines of a label, a tab or blank, and a text; empty lines are passed over."""
    rows = []
    for number, line in enumerate(read_lines(option, path, encoding), start=1):
        if not line.strip():
            continue
        row = line.split(maxsplit=1)
        if len(row) < 2:
            raise SystemExit(f"{option}: {path}, line {number}: got {line!r}, want a label, a tab or blank, and a text")
        rows.append(row)
    return Labelled([text.strip() for _, text in rows], [label for label, _ in rows])


def cut_off(rows: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """All but this share of the rows, and the share, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(rows.labels))
    count = max(1, round(share * len(order)))
    kept, cut = sorted(order[count:]), sorted(order[:count])
    return tuple(Labelled(*([column[place] for place in part] for column in rows)) for part in (kept, cut))  # type: ignore[return-value]


def numbers(option: str, labels: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Labels as places in ``names``."""
    place = {name: number for number, name in enumerate(names)}
    for row, label in enumerate(labels, start=1):
        if label not in place:
            known = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
            raise SystemExit(f"{option}: text {row} has label {label!r}, which no training text has: {known}")
    return np.array([place[label] for label in labels], np.int32)


def word_codes(texts: Iterable[str], least: int, most: int | None = None, lower: bool = True) -> Tokenizer:
    """A tokeniser whose tokens are words and punctuation marks that occur at least so often, the most frequent first.

    Text that is divided by blanks already stays divided so.
    """
    made = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), *([normalizers.Lowercase()] if lower else [])])
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(
        min_frequency=least, vocab_size=most or 10**9, special_tokens=[UNKNOWN, START, END], show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    return made


def piece_codes(texts: Iterable[str], most: int) -> Tokenizer:
    """A tokeniser of at most so many pieces of words, in lower case, by byte-pair encoding (Sennrich et al. 2016)."""
    made = Tokenizer(models.BPE(unk_token=UNKNOWN))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase(), normalizers.Strip()])
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    made.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=most, special_tokens=[UNKNOWN, START, END], show_progress=False)
    made.train_from_iterator(texts, trainer)
    return made


def encode(codes: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Each text as its tokens' numbers."""
    return [np.array(found.ids, np.int32) for found in codes.encode_batch(list(texts))]


def save_notes(folder: Path, codes: Tokenizer, notes: dict) -> None:
    """The tokeniser, and what else a model needs to be loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    codes.save(str(folder / "tokenizer.json"))
    (folder / "model.json").write_text(json.dumps(notes, indent=1))


def load_notes(option: str, folder: Path) -> tuple[Tokenizer, dict]:
    """What ``save_notes`` wrote."""
    for name in ("tokenizer.json", "model.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise SystemExit(f"{option}: {folder} has no {name}, want a folder that --save wrote")
    return Tokenizer.from_file(str(folder / "tokenizer.json")), json.loads((folder / "model.json").read_text())
