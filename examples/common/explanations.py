"""The words that decide what a classifier of texts says."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common import saved
from lstm_jax import diagnostics
from lstm_jax.models import classifier

NUM_PATH_POINTS = 256
"""The number of gradients on the path to a text; pooling by maxima needs many."""


class Verdict(NamedTuple):
    """The class that a text was given."""

    name: str
    probability: float
    words: list[str]
    contributions: np.ndarray
    """what each word adds to the class's lead over the next one"""


@partial(jax.jit, static_argnames="pooling")
def explain(params: Any, codes: jax.Array, pooling: str) -> tuple[jax.Array, jax.Array]:
    """Probabilities of the classes ``[C]``, and what each word adds to the lead of the likeliest one ``[T]``."""
    embedded, length = params.embedding[codes], jnp.asarray(len(codes), jnp.int32)

    def logits(xs: jax.Array) -> jax.Array:
        """Scores the classes by embedded words."""
        return classifier.classify(params._replace(embedding=None), xs, length, pooling=pooling).logits

    scores = logits(embedded)
    second, first = jnp.argsort(scores)[-2:]
    lead = diagnostics.integrated_gradients(
        lambda xs: logits(xs)[first] - logits(xs)[second], embedded, num_points=NUM_PATH_POINTS
    )
    return jax.nn.softmax(scores), lead.per_step


def judge(model: saved.Model, text: str) -> Verdict:
    """Classifies a text, and weighs its words."""
    tokens = model.tokenizers["tokenizer"].encode(text)
    codes = jnp.array(tokens.ids, jnp.int32)
    probabilities, contributions = map(np.asarray, explain(model.params, codes, model.notes["pooling"]))
    words = [text[start:end] for start, end in tokens.offsets]
    name = model.notes["names"][int(probabilities.argmax())]
    return Verdict(name, float(probabilities.max()), words, contributions)


def show(verdicts: Sequence[Verdict], picture: Path | None = None) -> None:
    """Prints each class and text, deciding words in capitals; in a picture all words have colors by what they say."""
    labels, values = [], []
    print("class, probability, text; capitals: words that speak most for the class")
    for name, probability, words, contributions in verdicts:
        threshold = contributions.max() / 2
        decide = zip(words, contributions > threshold, strict=True)
        print(f"  {name} {probability:.2f}  {' '.join(word.upper() if decides else word for word, decides in decide)}")
        labels += [f"{name} {probability:.2f}:", *words[:-1], words[-1] + "\n"]
        values += [0.0, *(contributions / np.abs(contributions).max())]
    if picture:
        print(f"words colored by what they say: {picture}")
        meaning = "for the class given, scaled to each text's largest"
        diagnostics.plots.plot_text(labels, np.array(values), picture, value_label=meaning, separator=" ")
