"""Explains text classification by word: integrated gradients of the predicted class's lead."""

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
"""points on the path of integrated gradients; max pooling needs many"""


class Verdict(NamedTuple):
    """The predicted class of a text and the contribution of each of its T words."""

    name: str
    """name of the most probable class"""
    probability: float
    words: list[str]
    contributions: np.ndarray
    """``[T]``, contribution of each word to the lead of the class's logit over the second largest one"""


@partial(jax.jit, static_argnames="pooling")
def explain(params: Any, codes: jax.Array, pooling: str) -> tuple[jax.Array, jax.Array]:
    """Returns class probabilities and the contribution of each word to the most probable class.

    Args:
        params: parameters of the classifier.
        codes: codes of the words, ``[T]``.
        pooling: the classifier's pooling.
    Returns:
        (probabilities, contributions): ``[C]``, and ``[T]``, the contributions to the lead of the largest logit over
        the second largest.
    """
    embedded, length = params.embedding[codes], jnp.asarray(len(codes), jnp.int32)

    def logits(xs: jax.Array) -> jax.Array:
        """Returns the class logits ``[C]`` of embedded words ``[T, E]``."""
        return classifier.classify(params._replace(embedding=None), xs, length, pooling=pooling).logits

    class_logits = logits(embedded)
    second, first = jnp.argsort(class_logits)[-2:]
    attribution = diagnostics.integrated_gradients(
        lambda xs: logits(xs)[first] - logits(xs)[second], embedded, num_points=NUM_PATH_POINTS
    )
    return jax.nn.softmax(class_logits), attribution.per_step


def judge(model: saved.Model, text: str) -> Verdict:
    """Classifies a text with a model of ``classify_text.py`` and computes the contribution of each word."""
    tokens = model.tokenizers["tokenizer"].encode(text)
    codes = jnp.array(tokens.ids, jnp.int32)
    probabilities, contributions = map(np.asarray, explain(model.params, codes, model.notes["pooling"]))
    words = [text[start:end] for start, end in tokens.offsets]
    name = model.notes["names"][int(probabilities.argmax())]
    return Verdict(name, float(probabilities.max()), words, contributions)


def show(verdicts: Sequence[Verdict], picture: Path | None = None) -> None:
    """Prints the class of each text, with the words that contribute most in capitals.

    Args:
        verdicts: the classified texts.
        picture: an image file in which words are colored by their contribution; None plots nothing.
    """
    labels, values = [], []
    print("class, probability, text; capitals: words that speak most for the class")
    for name, probability, words, contributions in verdicts:
        threshold = contributions.max() / 2
        flagged_words = zip(words, contributions > threshold, strict=True)
        marked = " ".join(word.upper() if decides else word for word, decides in flagged_words)
        print(f"  {name} {probability:.2f}  {marked}")
        labels += [f"{name} {probability:.2f}:", *words[:-1], words[-1] + "\n"]
        values += [0.0, *(contributions / np.abs(contributions).max())]
    if picture:
        print(f"words colored by what they say: {picture}")
        meaning = "for the class given, scaled to each text's largest"
        diagnostics.plots.plot_text(labels, np.array(values), picture, value_label=meaning, separator=" ")
