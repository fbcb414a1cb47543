"""Looks inside a character model of Python source: which cells track strings, comments, brackets, indentation?

    python examples/char_lm.py --save runs/python --minutes 8    # the model to look into
    python examples/look_inside.py --load runs/python
    python examples/look_inside.py --load runs/python --data FILE.py OTHER.py

Python's own tokenizer says at each character whether it lies inside a string, how many brackets are open and so on. A
cell is chosen on every other 4,000 characters and scored on those between: 1 when it tells yes from no perfectly, or
follows a number in perfect order, 0 if they have nothing in common. What chance gives is measured by shifting the
feature around in time: neighbouring characters are alike, so it is far from 0. The default texts are modules of the
standard library, in the last tenth that training held out. Writes pictures beside --picture and a page to explore,
cells.html.
"""

import argparse
import io
import sysconfig
import tokenize
from pathlib import Path
from typing import NamedTuple

import char_lm
import numpy as np
from common import texts
from common.results import whole

from lstm_jax import diagnostics
from lstm_jax.diagnostics import pictures

CHARACTERS = 100_000
BLOCK = 4_000
"""characters of which every other such block serves to choose a cell"""
SHOWN = 800
"""characters in a picture and on the page"""
DEFAULT = "webbrowser.py", "weakref.py", "zipfile.py"
LEAST = 400
"""characters"""
F_START, F_END = (getattr(tokenize, f"FSTRING_{end}", None) for end in ("START", "END"))
"""Tokens of f-strings from Python 3.12 on; before, they are strings."""


class Found(NamedTuple):
    """A cell that follows a feature."""

    feature: str
    cell: int
    chosen: float
    """its score where it was chosen"""
    score: float
    """its score on the other blocks; below 0 where it follows the other way round"""
    chance: float
    """what that cell reaches there by chance, one time in twenty"""


def python_features(text: str) -> dict[str, np.ndarray]:
    """What is true having read each character ``[T]``, by Python's tokenizer."""
    lines = [line + "\n" for line in text.split("\n")]  # as the tokenizer counts them
    starts = np.cumsum([0, *map(len, lines)])
    inside = {name: np.zeros(len(text), bool) for name in ("inside a string", "inside a comment")}
    depth = np.zeros(len(text) + 1, int)
    opened = nested = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        first, last = (starts[line - 1] + column for line, column in (token.start, token.end))
        if token.type in (F_START, F_END):
            opened = opened if nested else first
            nested += 1 if token.type == F_START else -1
        if token.type in (tokenize.STRING, F_END) and not nested:  # having read its last quote is being outside
            inside["inside a string"][opened if token.type == F_END else first : last - 1] = True
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


def find_cells(memory: np.ndarray, features: dict[str, np.ndarray]) -> list[Found]:
    """The best cell for each feature that occurs in both parts."""
    size = min(BLOCK, len(memory) // 2)
    choosing, found = np.arange(len(memory)) // size % 2 == 0, []
    for name, feature in features.items():
        if any((part == part[0]).all() for part in (feature[choosing], feature[~choosing])):
            print(f"{name}: the same throughout half of the text, left out")
            continue
        first = diagnostics.track(memory[choosing], feature[choosing])
        second = diagnostics.track(memory[~choosing], feature[~choosing])
        cell = first.best
        score = second.scores[cell] * first.signs[cell] * second.signs[cell]
        found.append(Found(name, cell, first.scores[cell], score, second.chance_each[cell]))
    return found


def read_source(options: argparse.Namespace) -> tuple[str, dict[str, np.ndarray]]:
    """The first characters of the texts one behind the other, and what is true at each."""
    files = [texts.read_text("--data", path, "utf-8") for path in options.data]
    text = "".join(files)[: options.characters]
    if len(text) < LEAST:
        raise SystemExit(f"--data, --characters: got {len(text)}, want {LEAST} or more")
    found = []
    for path, one in zip(options.data, files, strict=True):
        try:
            found.append(python_features(one))
        except (tokenize.TokenError, SyntaxError) as error:
            raise SystemExit(f"--data: {path} is not Python source: {error}") from None
    return text, {name: np.concatenate([one[name] for one in found])[: len(text)] for name in found[0]}


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    library = Path(sysconfig.get_paths()["stdlib"])
    parser.add_argument("--load", type=Path, required=True, help="a folder that --save of char_lm.py wrote")
    modules = [library / name for name in DEFAULT if (library / name).is_file()]
    parser.add_argument("--data", type=Path, nargs="+", default=modules, help="Python source (modules of the library)")
    parser.add_argument("--characters", type=whole, default=CHARACTERS, help="to look at (%(default)s)")
    parser.add_argument("--picture", type=Path, default=Path("look_inside.png"), help="(%(default)s)")
    parser.add_argument("--page", type=Path, default=Path("cells.html"), help="(%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> list[Found]:
    """Reads the text with the model, ranks its cells, draws."""
    options = parse_options(arguments)
    params, alphabet, encoding = char_lm.load(options.load)
    if encoding == "bytes":
        raise SystemExit(f"--load: {options.load} holds a model of bytes, want one of characters")
    text, features = read_source(options)
    codes = char_lm.encode_prompt(alphabet, text, option="--data")
    seen = diagnostics.trace(params["lstm"], params["embedding"][codes])
    found = find_cells(np.asarray(seen["c"]), features)
    print(f"{'':20} {'cell':>5} {'chosen':>8} {'score':>8} {'chance':>8}")
    for one in found:
        print(f"{one.feature:20} {one.cell:5} {one.chosen:8.3f} {one.score:8.3f} {one.chance:8.3f}")
    start = min(BLOCK, len(text) // 2)
    for one in found:
        path = options.picture.with_stem(f"{options.picture.stem}_{one.feature.replace(' ', '_')}")
        title = f"cell {one.cell}: {one.feature}, score {one.score:.2f} (by chance {one.chance:.2f})"
        shown = slice(start, start + SHOWN)
        pictures.plot_text(list(text[shown]), seen["c"][shown, one.cell], path, title=title, meaning="memory c")
    pictures.plot_units(diagnostics.unit_stats(seen), options.picture)
    diagnostics.write_page(
        options.page,
        {name: values[start : start + SHOWN] for name, values in seen.items()},
        list(text[start : start + SHOWN]),
        title=f"{options.data[0].name}, read by a character model of {params['head'].shape[0]} cells",
        features={name: feature[start : start + SHOWN] for name, feature in features.items()},
    )
    print(f"Pictures {options.picture.stem}*{options.picture.suffix}; open {options.page} in a browser")
    return found


if __name__ == "__main__":
    main()
