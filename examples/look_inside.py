"""Finds the cells of a character model of Python source that track strings, comments, brackets or indentation.

    python examples/char_lm.py --save runs/python --minutes 8    # the model to look into
    python examples/look_inside.py --load runs/python
    python examples/look_inside.py --load runs/python --data FILE.py OTHER.py

Python's own tokenizer gives the features of each character: whether it is inside a string, how many brackets are open
and so on. A cell is chosen on every other block of 4,000 characters and scored on the blocks between: 1 if it separates
yes from no perfectly, or has the same order as a number, 0 if it is unrelated. The chance level is measured by shifting
the feature in time; it is far from 0, since neighboring characters are alike. The default texts are modules of the
standard library in its last tenth, which training held out. Writes plots and an interactive page, cells.html. Expect at
least one cell far above chance for each feature with the model above.
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
"""length of the blocks that alternately serve to choose and to score a cell"""
SHOWN_CHARACTERS = 800
"""characters in the plots and on the page"""
DEFAULT_MODULES = "webbrowser.py", "weakref.py", "zipfile.py"


class Settings(NamedTuple):
    """Settings of what is read and written; --set NAME=VALUE changes one."""

    characters: Count = 100_000  # to read, at most
    page: OutputPath = Path("cells.html")


class TrackedFeature(NamedTuple):
    """A feature of the text and the cell that tracks it best."""

    feature: str
    cell: int
    chosen: float
    """score on the blocks where the cell was chosen"""
    score: float
    """score on the other blocks; negative if the direction is opposite there"""
    chance: float
    """95 % quantile of the cell's score by chance on the other blocks"""


def find_cells(memory: np.ndarray, features: dict[str, np.ndarray]) -> list[TrackedFeature]:
    """Finds the cell that tracks each feature best, for features that vary in both halves of the blocks.

    Args:
        memory: memory c of each cell after each character, ``[T, H]``.
        features: arrays ``[T]`` by name.
    """
    size = min(BLOCK_CHARACTERS, len(memory) // 2)
    in_choice = np.arange(len(memory)) // size % 2 == 0
    tracked = []
    for name, feature in features.items():
        if any((part == part[0]).all() for part in (feature[in_choice], feature[~in_choice])):
            print(f"{name}: the same throughout half of the text, left out")
            continue
        choice = diagnostics.track(memory[in_choice], feature[in_choice])
        test = diagnostics.track(memory[~in_choice], feature[~in_choice])
        cell = choice.best_unit
        score = test.scores[cell] * choice.signs[cell] * test.signs[cell]
        tracked.append(TrackedFeature(name, cell, choice.scores[cell], score, test.unit_chance_levels[cell]))
    return tracked


def main(arguments: list[str] | None = None) -> list[TrackedFeature]:
    """Runs the model over the text, finds the cells and plots them; returns the tracked features."""
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
