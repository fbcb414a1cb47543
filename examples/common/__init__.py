"""What the examples share.

``options`` reads the command line, ``saved`` keeps a model in a folder, ``results`` writes the record of a run and the
table of all records, ``pictures`` draws. ``texts`` reads text files and makes tokens; ``characters``, ``words``,
``reviews``, ``sentences``, ``stories``, ``python_source``, ``flip_flops`` and ``synthetic`` make the data of one
example each. ``ngrams`` and ``baselines`` are the naive models, ``explanations`` weighs the words of a text. Each other
module says in its first line what it holds.
"""
