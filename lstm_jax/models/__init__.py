"""Small LSTM models, one per file, each with a NamedTuple of parameters, an ``init_...`` function and pure functions.

``classifier`` (sequence classification), ``language_model``, ``seq2seq`` (translation with attention), ``memory_qa``
(question answering over a story), ``forecaster`` (quantile forecasts of a time series), ``ctc_recognizer`` (labeling of
unaligned frames), and ``layers``, the building blocks that these models share. Time is axis 0 and batch axes follow.
Dropout is applied only when ``key`` is given. The folder ``examples`` trains each model.
"""

from lstm_jax.models import classifier, ctc_recognizer, forecaster, language_model, layers, memory_qa, seq2seq

__all__ = ["classifier", "ctc_recognizer", "forecaster", "language_model", "layers", "memory_qa", "seq2seq"]
