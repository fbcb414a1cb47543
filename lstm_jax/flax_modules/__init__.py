"""Flax modules on the engine: ``lstm_jax.flax_modules.linen`` and ``lstm_jax.flax_modules.nnx``.

``RNN`` takes the place of Flax's own around Flax's own cells, with the same parameter tree, so a checkpoint loads as it
is. ``LSTMStack`` holds our parameters and is called like ``lstm_stack``. Needs the package ``flax``.
"""
