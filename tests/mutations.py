"""Breaks the code on purpose, one line at a time, and says which faults no test notices.

    python tests/mutations.py                    all of them, in about 15 minutes
    python tests/mutations.py --only ctc --jobs 2

Each fault is put into a copy of the repository, where the tests that should notice it run; the repository itself is not
touched. A fault is caught if a test fails, survives if all of them pass, and is stale if its line is no longer there or
its tests no longer run: then mend the table below.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
COPIED = ("lstm_jax", "tests", "examples", "benchmarks", "docs", "README.md", "pyproject.toml")
TIME_LIMIT = 300
"""seconds for the tests of one fault; one that never ends is caught"""


class Mutation(NamedTuple):
    """One fault."""

    path: str
    """a file of ``lstm_jax``, or a folder whose files are searched; ``name.py`` may have become the folder ``name``"""
    old: str
    """a piece of one line that occurs once there"""
    new: str
    tests: tuple[str, ...]
    """what should turn red: files of ``tests`` without ``test_`` and ``.py``, and names of tests without ``test_``"""


def fault(path: str, old: str, new: str, *tests: str) -> Mutation:
    return Mutation(path, old, new, tests)


ORACLE = "laws::values_and_gradients_equal_the_oracle"
STEPS, ENGINE, CHUNKS, STACK, LAYERS, CHECKS = (
    f"_core/{name}.py" for name in ("steps", "engine", "chunks", "stack", "layers", "checks")
)
SCAN = "_core/implementations/scan.py"
TRAINING, DIAGNOSTICS, DECODING, CTC = "training", "diagnostics", "decoding", "decoding/ctc.py"
METRICS, REGULARIZERS, INITIALIZERS = "training/metrics.py", "regularizers.py", "initializers.py"


def cell_oracle(*cells: str) -> tuple[str, ...]:
    return tuple(f"cells::values_equal_the_oracle[{cell}-gates]" for cell in cells)


MUTATIONS = {
    # steps: lengths, masks, resets, direction
    "steps: a reset at the first step is ignored": fault(
        STEPS,
        "jnp.zeros_like(segment[:1]), preceding",
        "preceding[:1], preceding",
        f"{ORACLE}[all-state-forward-gates]",
    ),
    "steps: in reverse the initial state is not read": fault(
        STEPS, "(before == segment) | (before == beyond)", "before == segment", f"{ORACLE}[all-state-reverse-gates]"
    ),
    "steps: in reverse a boundary is looked for on the wrong side": fault(
        STEPS, "axis=0, reverse=True)", "axis=0, reverse=False)", f"{ORACLE}[mask-state-reverse-gates]"
    ),
    "steps: a length takes one step more": fault(
        STEPS, "< lengths[None]", "<= lengths[None]", "steps::lengths_to_mask"
    ),
    "steps: traced lengths are not clamped at T": fault(
        STEPS, "jnp.clip(wide, 0, steps)", "jnp.clip(wide, 0, steps - 1)", "laws::traced_lengths_are_clamped"
    ),
    "steps: an episode's end resets its own step": fault(
        STEPS, "[start[None], done]", "[done, start[None]]", "steps::resets_from_done_shift_by_one_step"
    ),
    "steps: a smaller segment id is no change": fault(
        STEPS,
        "segment_ids[1:] != segment_ids[:-1]",
        "segment_ids[1:] > segment_ids[:-1]",
        "steps::resets_from_segment_ids_mark_changes",
    ),
    "steps: the reading order is off by one": fault(
        STEPS,
        "- 1 - steps) % time",
        "- steps) % time",
        "steps::reading_order_turns_what_was_read_and_leaves_the_padding",
    ),
    # the engine
    "engine: resets are not applied": fault(
        SCAN,
        "prev_state = select(flags.carried, state",
        "prev_state = select(None, state",
        f"{ORACLE}[all-state-forward-gates]",
    ),
    "engine: a step not taken changes the state": fault(
        SCAN, "select(flags.taken, new_state, state)", "new_state", f"{ORACLE}[mask-none-forward-gates]"
    ),
    "engine: a step not taken has an output": fault(
        SCAN, "(select(flags.taken, y, None), residuals)", "(y, residuals)", f"{ORACLE}[mask-none-forward-gates]"
    ),
    "engine: the tangent of inputs and weights is left out": fault(
        SCAN, "da = add_trees(da, da_direct)", "da = add_trees(da, None)", f"{ORACLE}[all-none-forward-gates]"
    ),
    "engine: the tangent of parameters read by update is left out": fault(
        SCAN,
        "(da, dprev_state), dupdate)",
        "(da, dprev_state), None)",
        "cells::derivatives_equal_those_of_a_plain_scan[peephole-gates]",
    ),
    "engine: the reset state gets no gradient": fault(
        SCAN,
        "dprev_state = select(flags.carried, dstate",
        "dprev_state = select(None, dstate",
        f"{ORACLE}[all-state-forward-gates]",
    ),
    "engine: the tangent reads padding": fault(
        ENGINE,
        "    xs = select(flags.taken, xs, None)",
        "    xs = select(None, xs, None)",
        f"{ORACLE}[mask-none-forward-gates]",
    ),
    "engine: the gates are not saved but computed twice": fault(
        SCAN,
        'Residuals(prev_state, a if config.remat == "gates" else None)',
        "Residuals(prev_state, None)",
        "structure::each_loop_over_time_holds_one_product[gates-lstm]",
    ),
    "engine: segments are read forward": fault(
        ENGINE, "segment_steps, plan.config.reverse)", "segment_steps, False)", f"{ORACLE}[all-none-reverse-4]"
    ),
    "engine: gradients of segments are summed in half precision": fault(
        ENGINE,
        "wide = to_accumulator(narrow)",
        "wide = narrow",
        "dtypes::gradients_are_summed_over_many_chunks_in_float32[bfloat16-4]",
    ),
    "engine: the tangent is read forward": fault(
        ENGINE,
        "plan.max_chunk_steps, plan.config.reverse, residuals",
        "plan.max_chunk_steps, False, residuals",
        f"{ORACLE}[all-none-reverse-gates]",
    ),
    # chunks
    "chunks: in reverse the remainder comes last": fault(
        CHUNKS, 'if reverse else ("full"', 'if False else ("full"', "structure::scan_in_chunks_is_a_scan"
    ),
    "chunks: the remainder is taken from the start": fault(
        CHUNKS, "leaf[num_chunks * size :]", "leaf[: length - num_chunks * size]", "structure::scan_in_chunks_is_a_scan"
    ),
    "chunks: they come in the wrong order": fault(
        CHUNKS, "index * size, size", "(num_chunks - 1 - index) * size, size", "structure::scan_in_chunks_is_a_scan"
    ),
    "chunks: a bad divisor makes tiny chunks": fault(
        CHUNKS,
        "return divisor if 2 * divisor >= max_size else max_size",
        "return divisor",
        "structure::chunks_divide_time_evenly_unless_they_would_be_small",
    ),
    # layers, directions, the parallel scan
    "stack: the backward direction comes first": fault(
        LAYERS,
        "jnp.concatenate(outputs",
        "jnp.concatenate(outputs[::-1]",
        "stack::layers_and_directions_with_every_option[gates]",
    ),
    "stack: between is told the wrong layer": fault(
        LAYERS,
        "between(number, xs, ys)",
        "between(number + 1, xs, ys)",
        "stack::between_acts_after_each_layer_but_the_last",
    ),
    "stack: between acts after the last layer": fault(
        LAYERS,
        "if between is None or is_last",
        "if between is None",
        "stack::between_acts_after_each_layer_but_the_last",
    ),
    "stack: both directions are drawn alike": fault(
        STACK,
        "jax.random.split(layer_key)",
        "[layer_key, layer_key]",
        "stack::each_layer_and_direction_is_drawn_by_itself",
    ),
    "stack: layers are drawn alike": fault(
        STACK,
        "jax.random.split(key, num_layers)",
        "[key] * num_layers",
        "stack::each_layer_and_direction_is_drawn_by_itself",
    ),
    "parallel: the wrong decay is applied": fault(
        "_core/parallel.py",
        "second[0] * first[1]",
        "first[0] * first[1]",
        "parallel::equals_the_loop_with_every_option[min_gru-all-none-forward]",
    ),
    # checks
    "checks: a length of T is refused": fault(
        CHECKS,
        "high > time",
        "high >= time",
        "laws::traced_lengths_are_clamped",
        "checks::a_reset_state_may_broadcast_and_length_limits_are_allowed",
    ),
    "checks: flags of any dtype pass": fault(
        CHECKS, "if flags.dtype != jnp.bool_", "if False", "checks::a_wrong_call_names_the_argument"
    ),
    "checks: remat of 0 passes": fault(
        CHECKS, "and remat >= 1", "and remat >= 0", "checks::a_wrong_call_names_the_argument"
    ),
    "checks: a size of 0 passes": fault(
        CHECKS,
        "or size < 1",
        "or size < 0",
        "checks::a_wrong_call_names_the_argument",
        "cells::a_size_of_zero_is_refused",
    ),
    "checks: a state of another dtype passes": fault(
        CHECKS, "if leaf.dtype != want.dtype", "if False", "checks::a_wrong_call_names_the_argument"
    ),
    # initializers
    "initializers: the wrong gate has a bias of 1": fault(
        INITIALIZERS, 'float(gate == "f")', 'float(gate == "i")', "initializers::the_forget_bias_is_visible"
    ),
    "initializers: torch's bound has another size": fault(
        INITIALIZERS,
        "bound = hidden_size**-0.5",
        "bound = input_size**-0.5",
        "initializers::torch_is_uniform_with_two_biases_summed",
    ),
    "initializers: torch's second bias is left out": fault(
        INITIALIZERS,
        "+ init_uniform(keys[3], (slab_size,))",
        "",
        "initializers::torch_is_uniform_with_two_biases_summed",
    ),
    "initializers: chrono opens the input gate": fault(
        INITIALIZERS,
        "-jnp.log(horizon), jnp.log(horizon)",
        "jnp.log(horizon), -jnp.log(horizon)",
        "initializers::chrono_spreads_the_memory_spans",
    ),
    "initializers: all gates are drawn alike": fault(
        INITIALIZERS,
        "in jax.random.split(key, num_gates)]",
        "in [key] * num_gates]",
        "cells::each_gate_is_drawn_by_itself",
    ),
    "initializers: haiku's scale leaves the state out": fault(
        INITIALIZERS,
        "truncated_normal(num_rows**-0.5)",
        "truncated_normal(input_size**-0.5)",
        "initializers::haiku_equals_haiku_in_distribution",
    ),
    # the LSTM's gates
    "gates: the sigmoid is not shifted": fault(
        "cells/gates.py", "0.5 * block + 0.5", "0.5 * block", *cell_oracle("lstm")
    ),
    "gates: the sigmoid's argument is not halved": fault(
        "cells/gates.py", '1.0 if name == "g" else 0.5', "1.0", *cell_oracle("lstm")
    ),
    "gates: input and forget gate change places": fault("cells/gates.py", '"ifgo"', '"figo"', *cell_oracle("lstm")),
    "gates: the memory is clipped on one side": fault(
        "cells/gates.py",
        "-gate_spec.clip, gate_spec.clip",
        "-10 * gate_spec.clip, gate_spec.clip",
        "cells::a_clipped_memory_has_a_limit_on_both_sides",
    ),
    "lstm: the candidate's slope is wrong": fault(
        "cells/lstm.py", "i * (1 - g * g)", "i * (1 - g)", f"{ORACLE}[all-none-forward-gates]"
    ),
    "lstm: the output's slope is wrong": fault(
        "cells/lstm.py", "o * (1 - tanh_c * tanh_c)", "o", f"{ORACLE}[all-none-forward-gates]"
    ),
    # other cells
    "gru: the update gate is turned around": fault(
        "cells/gru.py", "((1 - z) * n + z * h", "(z * n + (1 - z) * h", *cell_oracle("gru")
    ),
    "gru: the reset gate acts on the input too": fault(
        "cells/gru.py",
        "a.candidate_input + r * a.candidate_state",
        "r * (a.candidate_input + a.candidate_state)",
        *cell_oracle("gru"),
    ),
    "gru_original: the state is not reset": fault(
        "cells/gru.py", "(r * h.astype(r.dtype))", "(h.astype(r.dtype))", *cell_oracle("gru_original")
    ),
    "coupled: both gates open together": fault(
        "cells/variants.py", 'return 1 - gates["f"]', 'return gates["f"]', *cell_oracle("coupled")
    ),
    "capped: the larger one": fault(
        "cells/variants.py", "jnp.minimum(gates", "jnp.maximum(gates", *cell_oracle("capped")
    ),
    "janet: the shift is wrong": fault("cells/variants.py", "math.e *", "2.0 *", *cell_oracle("janet")),
    "peephole: the output gate sees the old memory": fault(
        "cells/peephole.py", "(params, c)[2] * c", "(params, c)[2] * state.c", *cell_oracle("peephole")
    ),
    "layer_norm: another epsilon": fault(
        "cells/layer_norm.py", "EPSILON = 1e-5", "EPSILON = 1e-3", *cell_oracle("layer_norm")
    ),
    "multiplicative: the factors are added": fault(
        "cells/multiplicative.py",
        "(x_factor * matmul(",
        "(x_factor + matmul(",
        *cell_oracle("multiplicative"),
    ),
    "mogrifier: rounds in the wrong order": fault(
        "cells/mogrifier.py", "n % 2 == 0", "n % 2 == 1", *cell_oracle("mogrifier")
    ),
    "mogrifier: gates are not doubled": fault(
        "cells/mogrifier.py", "(2 * jax.nn.sigmoid", "(1 * jax.nn.sigmoid", *cell_oracle("mogrifier")
    ),
    "slstm: it is not stabilized": fault(
        "cells/slstm.py",
        "jnp.maximum(log_f_plus_m, a_i)",
        "0 * jnp.maximum(log_f_plus_m, a_i)",
        "cells::slstm_is_stabilized",
    ),
    "slstm: the denominator counts the candidate": fault(
        "cells/slstm.py", "f * state.n + i", "f * state.n + i * g", *cell_oracle("slstm")
    ),
    "min_gru: decay and inflow change places": fault(
        "cells/minimal.py", "AffineStep(1 - z, z * v)", "AffineStep(z, (1 - z) * v)", *cell_oracle("min_gru")
    ),
    "min_lstm: the gates are not normalized": fault(
        "cells/minimal.py",
        "jax.nn.log_sigmoid(a_f) - jax.nn.log_sigmoid(a_i)",
        "a_f - a_i",
        *cell_oracle("min_lstm"),
    ),
    "conv: an even kernel is centered elsewhere": fault(
        "cells/conv.py",
        "((size - 1) // 2, size // 2)",
        "(size // 2, (size - 1) // 2)",
        "cells_elsewhere::conv_lstm_of_keras[2]",
    ),
    "batch_norm: momentum of the new moments": fault(
        "cells/batch_norm.py",
        "momentum * running[:num_steps] + (1 - momentum) *",
        "(1 - momentum) * running[:num_steps] + momentum *",
        "batch_norm::statistics_are_running_means_by_place",
    ),
    "tanh: the approximation is clipped too early": fault(
        "cells/activations.py",
        "BOUND = 10.0",
        "BOUND = 3.0",
        "activations::far_out_it_is_exactly_one",
        "activations::the_rational_form_equals_tanh",
    ),
    # regularizers
    "regularizers: what is kept is not scaled": fault(
        REGULARIZERS,
        "(1 / (1 - jnp.asarray(rate",
        "(1 / (1 + 0 * jnp.asarray(rate",
        "regularizers::the_expectation_over_masks_is_one",
    ),
    "regularizers: the rate is that of keeping": fault(
        REGULARIZERS, "(key, 1 - rate, shape)", "(key, rate, shape)", "regularizers::the_expectation_over_masks_is_one"
    ),
    "regularizers: all steps have one mask": fault(
        REGULARIZERS,
        "jax.random.fold_in(key, t)",
        "jax.random.fold_in(key, 0 * t)",
        "regularizers::zoneout_keeps_what_its_mask_says",
        "regularizers::dropout_of_a_split_run",
    ),
    "regularizers: the start is ignored": fault(
        REGULARIZERS,
        "(start + jnp.arange(num_steps))",
        "(jnp.arange(num_steps))",
        "regularizers::dropout_of_a_split_run",
    ),
    "regularizers: locked dropout changes by step": fault(
        REGULARIZERS, "(1, *xs.shape[1:])", "xs.shape", "regularizers::locked_dropout_is_one_mask_for_all_steps"
    ),
    "regularizers: zoneout is turned around": fault(
        REGULARIZERS,
        "mask * old + (1 - mask) * new",
        "mask * new + (1 - mask) * old",
        "regularizers::zoneout_keeps_what_its_mask_says",
    ),
    "regularizers: the temporal penalty adds": fault(
        REGULARIZERS, "ys[1:] - ys[:-1]", "ys[1:] + ys[:-1]", "regularizers::penalties"
    ),
    # decoding
    "decoding: another length penalty": fault(
        DECODING, "((5 + jnp.arange", "((6 + jnp.arange", "decoding::a_wide_beam_finds_what_brute_force_finds"
    ),
    "decoding: the end does not count in the length": fault(
        DECODING,
        "/ penalties[num_tokens + 1]",
        "/ penalties[num_tokens]",
        "decoding::a_wide_beam_finds_what_brute_force_finds",
    ),
    "decoding: an ended beam goes on": fault(
        DECODING, ".set(NEG_INF).ravel()", ".add(0.0).ravel()", "decoding::a_wide_beam_finds_what_brute_force_finds"
    ),
    "decoding: the nucleus lacks the token that reaches p": fault(
        DECODING,
        "jnp.cumsum(probabilities) - probabilities",
        "jnp.cumsum(probabilities)",
        "decoding::nucleus_keeps_the_fewest_that_reach_p",
    ),
    "decoding: of top k the least is dropped": fault(
        DECODING, "logits >= ", "logits > ", "decoding::top_k_keeps_the_largest"
    ),
    "decoding: temperature is turned around": fault(
        DECODING, "= logits / temperature", "= logits * temperature", "decoding::sampling_draws_from_what_is_left"
    ),
    "ctc: a repeated label needs no blank": fault(
        CTC,
        "is_repeated, beams.blank_log_prob[:, None]",
        "is_repeated, log_prob[:, None]",
        "ctc::scores_are_those_of_the_loss",
    ),
    "ctc: greedy keeps repetitions": fault(
        CTC, "(path != previous)", "(path == path)", "ctc::greedy_is_the_labelling_of_the_best_path"
    ),
    "ctc: a label is repeated after a blank too": fault(
        CTC, "beams.label_log_prob + logp", "log_prob + logp", "ctc::scores_are_those_of_the_loss"
    ),
    # attention
    "attention: padding gets a weight": fault(
        "attention.py", "axis=0, where=mask)", "axis=0)", "attention::equals_numpy_row_by_row"
    ),
    "attention: scores grow with the width": fault(
        "attention.py", "/ jnp.sqrt(", "* jnp.sqrt(", "attention::equals_numpy_row_by_row"
    ),
    # metrics
    "metrics: what is masked counts in the mean": fault(
        METRICS,
        "jnp.sum(mask, dtype=wide)",
        "jnp.asarray(values.size, wide)",
        "metrics::equal_to_scikit_learn_in_one_batch_or_two",
    ),
    "metrics: precision is recall": fault(
        METRICS,
        "jnp.sum(self.counts, axis=0))",
        "jnp.sum(self.counts, axis=1))",
        "metrics::confusion_equals_scikit_learn",
    ),
    "metrics: f1 is half of it": fault(
        METRICS, "(2 * jnp.diagonal", "(1 * jnp.diagonal", "metrics::confusion_equals_scikit_learn"
    ),
    "metrics: bits are digits": fault(METRICS, "math.log(2)", "math.log(10)", "metrics::likelihoods"),
    "metrics: the spread of samples is not divided twice": fault(
        METRICS, "/ num_samples**2", "/ num_samples", "metrics::crps_by_its_definition_and_as_twice_the_pinball_loss"
    ),
    "metrics: the pinball loss is negative on one side": fault(
        METRICS,
        "(q - 1) * errors",
        "(1 - q) * errors",
        "metrics::crps_by_its_definition_and_as_twice_the_pinball_loss",
    ),
    "metrics: the worst accuracy is the best": fault(
        METRICS,
        '-value if metric.startswith("-")',
        'value if metric.startswith("-")',
        "fit::the_largest_is_the_best_with_a_minus_in_front",
    ),
    # data
    "data: every epoch has the same order": fault(
        TRAINING, "((seed, epoch))", "((seed, 0))", "data::an_epoch_visits_each_row_once_in_an_order_of_its_own"
    ),
    "data: the last code of a stream is not predicted": fault(
        TRAINING,
        "(k + 1) * length + 1]",
        "(k + 1) * length]",
        "data::a_stream_predicts_each_code_once_and_resets_at_its_start",
    ),
    "data: every window resets": fault(
        TRAINING,
        "(times == 0) & (index == 0)",
        "(times == 0)",
        "data::a_stream_predicts_each_code_once_and_resets_at_its_start",
    ),
    "data: a row that only fills up counts": fault(
        TRAINING,
        "np.arange(self.batch_size) < len(",
        "np.arange(self.batch_size) <= len(",
        "data::buckets_hold_each_sequence_once_with_little_padding",
    ),
    "data: one deviation for all features": fault(
        TRAINING, "train.std(axis=0)", "train.std()", "training_laws::each_feature_has_a_scale_of_its_own"
    ),
    # the step, validation, resumption
    "step: every step has the same key": fault(
        TRAINING,
        "fold_in(state.key, state.step)",
        "fold_in(state.key, 0)",
        "training_laws::each_step_has_a_key_of_its_own",
    ),
    "step: a step that failed is kept": fault(
        TRAINING,
        "_select(failure.step == NEVER, new",
        "_select(failure.step == failure.step, new",
        "fit::a_failed_step_and_those_after_it_leave_the_state_alone",
    ),
    "validation: the worst is kept": fault(
        TRAINING,
        "rank < rank_value(run.best",
        "rank > rank_value(run.best",
        "fit::it_learns_and_keeps_the_best",
    ),
    "validation: patience lasts one longer": fault(
        TRAINING,
        "run.stale_validations < patience",
        "run.stale_validations <= patience",
        "fit::patience_ends_training",
    ),
    "resumption: the best is forgotten": fault(
        TRAINING,
        'best_params=tree.get("best_params")',
        'best_params=tree["state"].params',
        "fit::what_was_best_is_remembered_over_a_resumption",
    ),
    "resumption: patience begins anew": fault(
        TRAINING,
        'stale_validations=notes["stale_validations"]',
        "stale_validations=0",
        "fit::a_run_whose_patience_is_over_stays_where_it_is",
    ),
    "checkpoints: another model's is taken": fault(
        TRAINING,
        "if layout.get(path) != wanted.get(path)",
        "if False",
        "training_laws::the_checkpoint_of_another_model_is_refused",
    ),
    "tbptt: windows before the batch count": fault(
        TRAINING,
        ">= depth - 1",
        ">= 0",
        "tbptt::looking_back_two_windows",
        "tbptt::looking_back_over_all_windows_is_full_back_propagation",
    ),
    # optimizers
    "optimizers: everything decays": fault(
        TRAINING, "mask=named(*patterns))]", "mask=None)]", "fit::decay_by_name_and_nothing_else"
    ),
    "optimizers: averaging starts when validation improves": fault(
        TRAINING,
        "loss > state.best_earlier_loss",
        "loss < state.best_earlier_loss",
        "fit::averaging_starts_once_validation_no_longer_improves",
    ),
    "optimizers: the cosine begins before the warm-up ends": fault(
        TRAINING, "(progress - warmup) / (1 - warmup)", "progress", "fit::half_cosine_with_warmup"
    ),
    # interop
    "keras: a GRU's gates are not reordered": fault(
        "interop/keras.py",
        'reorder_gates(leaf, "zrn", "rzn")',
        'reorder_gates(leaf, "rzn", "rzn")',
        "interop::keras_layers_with_two_directions_and_lengths",
    ),
    "keras: the candidate's bias is the input's": fault(
        "interop/keras.py",
        "merged, biases[1, 2",
        "merged, biases[0, 2",
        "interop::keras_layers_with_two_directions_and_lengths",
    ),
    "haiku: gates are not reordered": fault(
        "interop/haiku.py",
        'reorder_gates(leaf, "igfo", "ifgo")',
        'reorder_gates(leaf, "ifgo", "ifgo")',
        "interop::outputs_states_and_gradients[haiku-LSTM-(4, 5)]",
    ),
    "haiku: the forget offset is left out": fault(
        "interop/haiku.py", "f + offset", "f + 0 * offset", "interop::outputs_states_and_gradients[haiku-LSTM-(4, 5)]"
    ),
    "linen: input kernels in another order": fault(
        "interop/linen.py",
        'f"i{gate}.kernel"] for gate in "ifgo"',
        'f"i{gate}.kernel"] for gate in "figo"',
        "interop::outputs_states_and_gradients[linen-LSTMCell-(4, 5)]",
    ),
    "equinox: the candidate's bias is left out": fault(
        "interop/equinox.py",
        "params.bias, params.candidate_bias",
        "params.bias, 0 * params.candidate_bias",
        "interop::a_round_trip_gives_the_same_bits[equinox-GRUCell-(4, 5)]",
    ),
    "cudnn: one bias is left out": fault(
        "interop/cudnn.py", "b_ih + b_hh", "b_ih", "interop::the_flat_vector_of_cudnn"
    ),
    "torch: one bias is left out": fault(
        "interop/torch.py",
        'tensors["bias_ih"] + tensors["bias_hh"]',
        'tensors["bias_ih"]',
        "torch::lstm[num_layers=1-bidirectional=True-proj_size=0-bias=True-0]",
    ),
    "torch: the directions change places": fault(
        "interop/torch.py",
        "built[::2], built[1::2]",
        "built[1::2], built[::2]",
        "torch::lstm[num_layers=1-bidirectional=True-proj_size=0-bias=True-0]",
    ),
    "torch: the candidate's bias is the input's": fault(
        "interop/torch.py",
        "merged, b_hh[2",
        "merged, b_ih[2",
        "torch::gru[num_layers=1-bidirectional=True-proj_size=0-bias=True]",
    ),
    # modules of Flax
    "flax: outputs are always in reading order": fault(
        "flax_modules",
        ".reverse and not ",
        ".reverse or not ",
        "flax_rnn::linen_rnn_is_flaxs_own[LSTMCell-reverse, lengths, order]",
    ),
    "flax: the carry is read as (h, c)": fault(
        "flax_modules",
        "    c, h = map(",
        "    h, c = map(",
        "flax_rnn::linen_rnn_is_flaxs_own[LSTMCell-reverse, lengths]",
    ),
    # diagnostics
    "traces: the state before the step": fault(
        DIAGNOSTICS,
        "| state_fields(new)",
        "| state_fields(state)",
        "traces::a_trace_equals_the_oracle_gate_by_gate[all-none-forward]",
    ),
    "traces: rates instead of time constants": fault(
        DIAGNOSTICS,
        "1 / jnp.maximum(decay_rate, tiny)",
        "jnp.maximum(decay_rate, tiny)",
        "traces::units_of_known_gates",
    ),
    "attribution: the path goes beyond the baseline": fault(
        DIAGNOSTICS, "(nodes + 1) / 2", "nodes", "attribution::integrated_gradients_are_complete"
    ),
    "attribution: one step more is hidden": fault(
        DIAGNOSTICS, "< start + window_size", "<= start + window_size", "attribution::occlusion_by_hand"
    ),
    "flow: Jacobians are multiplied in the wrong order": fault(
        DIAGNOSTICS, "product @ jacobian", "jacobian @ product", "flow::jacobians_are_those_of_the_run"
    ),
    "tracking: ranks are not centered": fault(
        DIAGNOSTICS,
        "- (len(values) + 1) / 2",
        "",
        "attribution::the_planted_unit_is_found",
        "attribution::a_number_is_tracked_by_its_order",
    ),
}


class Outcome(NamedTuple):
    """What became of a fault."""

    word: str
    """caught, survived or stale"""
    detail: str


def node_id(test: str) -> str:
    """``"steps::lengths_to_mask"`` as pytest writes it."""
    module, name = test.split("::")
    return f"tests/test_{module}.py::test_{name}"


def find_line(folder: Path, mutation: Mutation) -> tuple[Path | None, str]:
    """The file that holds the line, or why there is none."""
    place = folder / "lstm_jax" / mutation.path
    paths = [place] if place.is_file() else sorted(place.with_suffix("").rglob("*.py"))
    holders = {path: path.read_text().count(mutation.old) for path in paths if mutation.old in path.read_text()}
    if sum(holders.values()) != 1:
        return None, f"{mutation.old!r} occurs {sum(holders.values())} times in lstm_jax/{mutation.path}, want once"
    return next(iter(holders)), ""


def run_tests(folder: Path, tests: list[str], limit: float = TIME_LIMIT) -> tuple[str, str]:
    """("failed", "passed" or "not run", the end of what pytest printed)."""
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "--durations=0", *tests]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return "failed", "it did not end"
    lines = (done.stdout + done.stderr).strip().splitlines() or [""]
    if done.returncode == 1:
        return "failed", next((line for line in lines if line.startswith("E  ")), lines[-1]).strip()
    passed = done.returncode == 0 and re.search(r"\d+ passed|^\.+", done.stdout, re.MULTILINE)
    return ("passed", "") if passed else ("not run", " | ".join(lines[-4:]))


def try_mutation(folder: Path, mutation: Mutation) -> Outcome:
    path, trouble = find_line(folder, mutation)
    if path is None:
        return Outcome("stale", trouble)
    whole = path.read_text()
    path.write_text(whole.replace(mutation.old, mutation.new))
    try:
        result, detail = run_tests(folder, [node_id(test) for test in mutation.tests])
    finally:
        path.write_text(whole)
    return Outcome({"failed": "caught", "passed": "survived", "not run": "stale"}[result], detail)


@contextmanager
def copies(count: int):
    """A queue of so many copies of the repository."""
    with tempfile.TemporaryDirectory() as parent:
        folders: SimpleQueue[Path] = SimpleQueue()
        for number in range(count):
            folder = Path(parent) / str(number)
            for name in COPIED:
                source, target = ROOT / name, folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.png", "results"))
                else:
                    shutil.copy(source, target)
            folders.put(folder)
        yield folders


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="the faults whose names hold this")
    parser.add_argument("--jobs", type=int, default=1, help="how many run at a time")
    parser.add_argument("--list", action="store_true", help="name them, and those whose line is not there")
    options = parser.parse_args()
    chosen = {name: mutation for name, mutation in MUTATIONS.items() if options.only in name}
    if options.list:
        for name, mutation in chosen.items():
            print(f"{name}{'  STALE: ' * bool(find_line(ROOT, mutation)[1])}{find_line(ROOT, mutation)[1]}")
        return 0
    outcomes = {}
    with copies(options.jobs) as folders, ThreadPoolExecutor(options.jobs) as pool:

        def in_a_copy(task) -> Outcome:
            folder = folders.get()
            try:
                return task(folder)
            finally:
                folders.put(folder)

        tests = sorted({node_id(test) for mutation in chosen.values() for test in mutation.tests})
        result, detail = in_a_copy(lambda folder: run_tests(folder, tests, limit=10 * TIME_LIMIT))
        if result != "passed":
            print(f"without any fault the tests should pass, but: {detail}; a fault that is caught then shows nothing")
        named = {
            name: pool.submit(in_a_copy, lambda folder, mutation=mutation: try_mutation(folder, mutation))
            for name, mutation in chosen.items()
        }
        for name, future in named.items():
            outcomes[name] = future.result()
            print(f"{outcomes[name].word:9s} {name}    {outcomes[name].detail[:160]}", flush=True)
    counts = Counter(outcome.word for outcome in outcomes.values())
    print(f"{counts['caught']} caught, {counts['survived']} survived, {counts['stale']} stale, of {len(outcomes)}")
    return 0 if result == "passed" and counts["caught"] == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
