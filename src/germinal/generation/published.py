"""A checkpoint's generation_config.json: what each key of transformers' `GenerationConfig` means here.

Every key is read, refused by name where it would have an effect, or on the list of those that have none; a test
compares the three with transformers' class. A key that the class does not have does nothing there, nor here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from germinal.errors import UnsupportedError

FILE = "generation_config.json (else config.json)"

_ALWAYS = {
    "max_new_tokens": "max_new_tokens",
    "min_new_tokens": "min_new_tokens",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
    "eos_token_id": "eos_ids",
    "stop_strings": "stop",
}
_SAMPLING = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "num_return_sequences": "n",
}
_BEAMS = {name: name for name in ("num_beams", "length_penalty", "early_stopping", "renormalize_logits")}

READ = frozenset(
    {*_ALWAYS, *_SAMPLING, *_BEAMS, "do_sample", "max_length", "min_length", "bad_words_ids"}
    | {"forced_bos_token_id", "forced_eos_token_id", "decoder_start_token_id", "bos_token_id", "pad_token_id"}
)
"""Keys that are read, perhaps for some models or values only; others are refused then."""

REFUSED: dict[str, tuple[Any, ...]] = {
    "min_length": (0,),
    "max_time": (),
    "typical_p": (1.0,),
    "top_h": (),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
    "encoder_repetition_penalty": (1.0,),
    "encoder_no_repeat_ngram_size": (0,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "sequence_bias": ([], {}),
    "exponential_decay_length_penalty": (),
    "guidance_scale": (1.0,),
    "watermarking_config": (),
    "token_healing": (False,),
    "penalty_alpha": (0.0,),
    "dola_layers": (),
    "constraints": ([],),
    "force_words_ids": ([],),
    "num_beam_groups": (1, 0),
    "diversity_penalty": (0.0,),
    "assistant_ensemble_weight": (0.0,),
    "num_return_sequences": (1,),
}
"""Keys that are refused by name, each with the values that ask for nothing; None always does."""

WITHOUT_EFFECT = frozenset(
    {
        # What is returned beside the tokens, and in which form.
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "output_logits",
        "return_dict_in_generate",
        # How the same tokens are computed: caches, compilation, batching, guesses that the model itself confirms.
        "use_cache",
        "cache_implementation",
        "cache_config",
        "max_cache_len",
        "prefill_chunk_size",
        "low_memory",
        "compile_config",
        "disable_compile",
        "continuous_batching_config",
        "use_mtp",
        "is_assistant",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "assistant_confidence_threshold",
        "assistant_early_exit",
        "assistant_lookbehind",
        "target_lookbehind",
        "prompt_lookup_num_tokens",
        "max_matching_ngram_size",
        "speculation_type",
        # Logits that are not finite are an error here, in place of being replaced.
        "remove_invalid_values",
        # Where the file came from.
        "transformers_version",
        "_from_model_config",
    }
)
"""Keys that do not change which tokens are generated."""


def settings_from_hf(generation_config: Mapping[str, Any], *, encoder_decoder: bool = False) -> dict[str, Any]:
    """The settings of `GenerationConfig` that a file asks for, as transformers interprets it.

    Args:
        generation_config: The file's content.
        encoder_decoder: Whether the model is an encoder-decoder; only then are forced tokens used, and both lengths
            count the answer alone, with the decoder's start token.

    Raises:
        UnsupportedError: the file asks for something that germinal does not do.
    """
    given = {name: value for name, value in generation_config.items() if value is not None}
    settings: dict[str, Any] = {}
    if encoder_decoder:
        for length, tokens in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
            if isinstance(given.get(length), int):
                given.setdefault(tokens, max(given.pop(length) - 1, 0))
        for name in ("forced_bos", "forced_eos"):
            ids = given.get(f"{name}_token_id")
            ids = ids if isinstance(ids, list) else [ids]
            if len(ids) == 1:
                settings[f"{name}_id"] = ids[0]
                given.pop(f"{name}_token_id", None)
    words = given.get("bad_words_ids")
    if isinstance(words, list) and words and all(isinstance(word, list) and len(word) == 1 for word in words):
        settings["logit_bias"] = {word[0]: -100.0 for word in given.pop("bad_words_ids")}
    names = dict(_ALWAYS)
    if given.get("num_beams", 1) != 1:
        names |= _BEAMS
    if given.get("do_sample"):
        given = {"temperature": 1.0, "top_k": 50, **given}
        names |= _SAMPLING
    for name, neutral in REFUSED.items():
        if name in given and name not in names and given[name] not in neutral:
            raise UnsupportedError(
                f"{name}={given[name]!r} is not supported.",
                where=f"{FILE}, {name}",
                hint="Remove it from a copy of the folder, if the model shall answer without it.",
            )
    return settings | {ours: given[theirs] for theirs, ours in names.items() if theirs in given}


def total_length(generation_config: Mapping[str, Any]) -> int | None:
    """The most tokens of prompt and answer together that a file asks for; None where it limits the answer, or nothing.

    As in transformers, `max_new_tokens` comes before `max_length`.
    """
    total = generation_config.get("max_length")
    return total if isinstance(total, int) and generation_config.get("max_new_tokens") is None else None
