"""Modules that several examples share: command line, saved models, records, data, baselines and pictures.

``options`` parses the command line, ``saved`` keeps a model in a folder, ``results`` writes the record of a run and the
table of all records, ``pictures`` plots. ``texts`` reads text files and trains tokenizers; ``characters``, ``words``,
``reviews``, ``sentences``, ``stories``, ``python_source``, ``flip_flops`` and ``synthetic`` provide the data of one
example each. ``ngrams`` and ``baselines`` are models without a network, ``explanations`` attributes a classification to
words. The first line of every other module says what it contains.
"""
