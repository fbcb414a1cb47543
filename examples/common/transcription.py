"""Transcribes clips with a model of recognize_speech.py, scores what it recognizes and draws it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jiwer
import numpy as np

from common import saved, speech
from common.speech import LETTERS
from lstm_jax import decoding
from lstm_jax.models import classifier, ctc_recognizer

BEAM_SIZE = 8
MAX_LABELS = 32
"""letters of a transcript"""

classify = jax.jit(classifier.classify)


@partial(jax.jit, static_argnames="beam_size")
def decode(params: Any, frames: jax.Array, length: jax.Array, beam_size: int) -> Any:
    """Finds the best labeling of frames ``[T, NUM_MELS]``; beam size 0 decodes greedily."""
    logits, length = ctc_recognizer.recognize(params, frames, length)
    if beam_size == 0:
        return decoding.ctc_greedy(logits, length)
    beams = decoding.ctc_beam_search(logits, length, beam_size=beam_size, max_labels=MAX_LABELS)
    return jax.tree.map(lambda leaf: leaf[0], beams)


def transcribe(model: saved.Model, frames: Sequence[np.ndarray], beam_size: int = BEAM_SIZE) -> list[str]:
    """Returns what is said in clips of scaled frames ``[T, NUM_MELS]``."""
    texts = []
    for clip in frames:
        xs, length = speech.pad_frames(clip)
        if model.notes["task"] == "words":
            texts.append(model.notes["words"][int(jnp.argmax(classify(model.params, xs, length).logits))])
        else:
            decoded = decode(model.params, xs, length, beam_size)
            texts.append("".join(LETTERS[int(label)] for label in decoded.tokens[: int(decoded.length)]))
    return texts


def score(model: saved.Model, test: speech.Utterances) -> dict[str, float]:
    """Scores the test part, and prints some of it."""
    if model.notes["task"] == "words":
        accuracy = np.mean(
            [text == label for text, label in zip(transcribe(model, test.frames), test.labels, strict=True)]
        )
        print(f"{accuracy:.1%} of {len(test.labels)} words right")
        return {"word accuracy": float(accuracy)}
    scores = {}
    for name, beam_size in (("greedy", 0), (f"{BEAM_SIZE} beams", BEAM_SIZE)):
        texts = transcribe(model, test.frames, beam_size)
        scores[f"character error, {name}"] = float(jiwer.cer(test.labels, texts))
        scores[f"word error, {name}"] = float(jiwer.wer(test.labels, texts))
    print("  ".join(f"{name} {value:.2%}" for name, value in scores.items()))
    for label, text in list(zip(test.labels, texts, strict=True))[:5]:
        print(f"  said {label!r}, recognized {text!r}")
    return scores


def plot_clip(model: saved.Model, frames: np.ndarray, label: str, path: Path) -> None:
    """Draws a clip's frames, and the probability of each letter or each frame's share of the pooled units."""
    length = jnp.int32(len(frames))
    if model.notes["task"] == "letters":
        logits, _ = ctc_recognizer.recognize(model.params, jnp.asarray(frames), length)
        rows, values = ["space" if letter == " " else letter for letter in LETTERS[1:]], jax.nn.softmax(logits).T[1:]
    else:
        rows, values = ["weight"], classifier.classify(model.params, jnp.asarray(frames), length).pooling_weights[None]
    speech.plot_recognition(frames, f"said: {label}", rows, np.asarray(values), path)
