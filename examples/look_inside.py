"""Looks inside a character model of Python source: which cells track strings, comments, brackets, indentation?

    python examples/char_lm.py --save runs/python --minutes 8    # the model to look into
    python examples/look_inside.py --load runs/python
    python examples/look_inside.py --load runs/python --data FILE.py OTHER.py

Python's own tokenizer says at each character whether it lies inside a string, how many brackets are open and so on. A
cell is chosen on every other 4,000 characters and scored on those between: 1 when it tells yes from no perfectly, or
follows a number in perfect order, 0 if they have nothing in common. The level of chance is measured by shifting the
feature in time: neighboring characters are alike, so it is far from 0. The default texts are modules of the standard
library, in the last tenth that training held out. Writes pictures and a page to explore, cells.html. Expect, of the
model above, at least one cell far above chance for each feature.
"""

import sysconfig
from pathlib import Path
from typing import NamedTuple

import char_lm
import numpy as np
from common import characters, python_source
from common.options import Count, OutputPath, new_parser, parse

from lstm_jax import diagnostics

BLOCK_CHARACTERS = 4_000
"""Every other block of so many characters serves to choose a cell."""
SHOWN_CHARACTERS = 800
DEFAULT_MODULES = "webbrowser.py", "weakref.py", "zipfile.py"


class Settings(NamedTuple):
    """Settings of what is read and written; --set NAME=VALUE changes one."""

    characters: Count = 100_000  # to read, at most
    page: OutputPath = Path("cells.html")


class TrackedFeature(NamedTuple):
    """A feature of the text and the cell that follows it."""

    feature: str
    cell: int
    chosen: float
    """the cell's score where it was chosen"""
    score: float
    """its score on the other blocks; below 0 where it follows the other way round"""
    chance: float
    """what that cell reaches there by chance, one time in twenty"""


def find_cells(memory: np.ndarray, features: dict[str, np.ndarray]) -> list[TrackedFeature]:
    """Finds the best cell for each feature that varies in both parts of the text."""
    size = min(BLOCK_CHARACTERS, len(memory) // 2)
    choosing, cells = np.arange(len(memory)) // size % 2 == 0, []
    for name, feature in features.items():
        if any((part == part[0]).all() for part in (feature[choosing], feature[~choosing])):
            print(f"{name}: the same throughout half of the text, left out")
            continue
        first = diagnostics.track(memory[choosing], feature[choosing])
        second = diagnostics.track(memory[~choosing], feature[~choosing])
        cell = first.best_unit
        score = second.scores[cell] * first.signs[cell] * second.signs[cell]
        cells.append(TrackedFeature(name, cell, first.scores[cell], score, second.unit_chance_levels[cell]))
    return cells


def main(arguments: list[str] | None = None) -> list[TrackedFeature]:
    """Reads the text with the model, ranks its cells, draws."""
    parser = new_parser(__doc__)
    library = Path(sysconfig.get_paths()["stdlib"])
    modules = [library / name for name in DEFAULT_MODULES if (library / name).is_file()]
    parser.add_argument("--load", type=Path, required=True, help="folder that --save of char_lm.py wrote")
    parser.add_argument("--data", type=Path, nargs="+", default=modules, help="Python source (modules of the library)")
    options = parse(parser, arguments, __file__, Settings, flags=())
    model = char_lm.load(options.load)
    if model.notes["encoding"] == "bytes":
        raise SystemExit(f"--load: {options.load} holds a model of bytes, want one of characters")
    text, features = python_source.read(options.data, options.characters)
    codes = characters.encode(model.notes["alphabet"], text, flag="--data")
    trace = diagnostics.trace(model.params["lstm"], model.params["embedding"][codes])
    cells = find_cells(np.asarray(trace["c"]), features)
    print(f"{'':20} {'cell':>5} {'chosen':>8} {'score':>8} {'chance':>8}")
    for row in cells:
        print(f"{row.feature:20} {row.cell:5} {row.chosen:8.3f} {row.score:8.3f} {row.chance:8.3f}")
    start = min(BLOCK_CHARACTERS, len(text) // 2)
    shown = slice(start, start + SHOWN_CHARACTERS)
    for row in cells:
        path = options.picture.with_stem(f"{options.picture.stem}_{row.feature.replace(' ', '_')}")
        title = f"cell {row.cell}: {row.feature}, score {row.score:.2f} (by chance {row.chance:.2f})"
        diagnostics.plots.plot_text(
            list(text[shown]), trace["c"][shown, row.cell], path, title=title, value_label="memory c"
        )
    diagnostics.plots.plot_unit_stats(diagnostics.unit_stats(trace), options.picture)
    diagnostics.write_page(
        options.page,
        {name: values[shown] for name, values in trace.items()},
        list(text[shown]),
        title=f"{options.data[0].name}, read by a character model of {model.params['head'].shape[0]} cells",
        features={name: feature[shown] for name, feature in features.items()},
    )
    print(f"Pictures {options.picture.stem}*{options.picture.suffix}; open {options.page} in a browser")
    return cells


if __name__ == "__main__":
    main()
