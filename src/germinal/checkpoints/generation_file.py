"""A folder's settings of generation: generation_config.json, or config.json in folders from before that file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from germinal.checkpoints.json_file import read_json
from germinal.errors import CheckpointError
from germinal.models.config import TransformerConfig

TOKEN_IDS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
)
"""Keys that are in config.json too, also where generation_config.json has them."""

SETTINGS = frozenset(
    {
        *TOKEN_IDS,
        "bad_words_ids",
        "begin_suppress_tokens",
        "constraints",
        "diversity_penalty",
        "do_sample",
        "dola_layers",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "encoder_repetition_penalty",
        "epsilon_cutoff",
        "eta_cutoff",
        "assistant_ensemble_weight",
        "exponential_decay_length_penalty",
        "force_words_ids",
        "guidance_scale",
        "length_penalty",
        "max_length",
        "max_new_tokens",
        "max_time",
        "min_length",
        "min_new_tokens",
        "min_p",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "penalty_alpha",
        "renormalize_logits",
        "repetition_penalty",
        "sequence_bias",
        "stop_strings",
        "suppress_tokens",
        "temperature",
        "token_healing",
        "top_h",
        "top_k",
        "top_p",
        "typical_p",
        "watermarking_config",
    }
)
"""Every setting that changes which tokens are generated. A test compares them with those that generation reads."""


def read_generation_config(folder: Path, published: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of generation_config.json, or the settings of config.json if there is no such file.

    As in transformers, config.json's settings count only where the file is missing, as beside BART's and Marian's first
    checkpoints. Only the decoder's start token, with which the model was trained, is taken from there if the file lacks
    it. (transformers 5 then refuses to generate, or starts with the bos token.)

    Args:
        folder: The folder.
        published: Its config.json.

    Raises:
        CheckpointError: the file is not a JSON object.
    """
    path = folder / "generation_config.json"
    named = {key: value for key, value in published.items() if key in SETTINGS and value is not None}
    if not path.is_file():
        return named
    own, start = read_json(path), "decoder_start_token_id"
    return {**own, start: named[start]} if own.get(start) is None and start in named else own


def check_start(generation_config: Mapping[str, Any], config: TransformerConfig, folder: Path) -> None:
    """Refuse a start token of the decoder that is outside the vocabulary.

    Raises:
        CheckpointError: it is.
    """
    for name in ("decoder_start_token_id", "bos_token_id") if config.stacks == "encoder-decoder" else ():
        id = generation_config.get(name)
        if isinstance(id, int) and not 0 <= id < config.vocab_size:
            raise CheckpointError(
                f"{name} is {id}, outside the vocabulary of {config.vocab_size:,}.", where=str(folder)
            )
