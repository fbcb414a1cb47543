"""Small models, one per file, each a NamedTuple of parameters with an ``init_...`` and pure functions over it.

``classifier`` (sequences to classes), ``language_model``, ``seq2seq`` (translation with attention), ``memory_qa``
(questions about a story), ``forecaster`` (quantiles of a series), ``ctc_recognizer`` (labels in a longer sequence of
frames), and ``layers``, the building blocks that they share. Time is axis 0, batch axes follow, and dropout is applied
only when a ``key`` is given. The examples train all of them.
"""

from lstm_jax.models import classifier, ctc_recognizer, forecaster, language_model, layers, memory_qa, seq2seq

__all__ = ["classifier", "ctc_recognizer", "forecaster", "language_model", "layers", "memory_qa", "seq2seq"]
