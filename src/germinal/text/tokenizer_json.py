"""Reads tokenizer.json, and sets on it what tokenizer_config.json says differently.

transformers 4 reads the whole of tokenizer.json and then sets the flags of the tokenizer's class on it; transformers 5
rebuilds the steps around the vocabulary from class and flags. Where the file's steps are those of the class, both come
to the same: the flags win, given ones and the class's defaults. Steps that no flag describes stay as in the file, with
which the model was trained (SmolLM2's digits, which transformers 5 no longer parts).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from germinal import files
from germinal.errors import CheckpointError
from germinal.text.declared_tokens import token_text
from germinal.text.library import calling
from germinal.text.sentencepiece_file import SPACE
from germinal.text.tokenizer_checks import check_tokenizer
from germinal.text.tokenizer_layout import TokenizerLayout

Step = dict[str, Any]
_NORMALIZER_FIELDS = {"do_lower_case": "lowercase", "strip_accents": "strip_accents"}
_NORMALIZER_FIELDS |= {"tokenize_chinese_chars": "handle_chinese_chars"}


def read_tokenizer_json(path: Path, config: Mapping[str, Any], layout: TokenizerLayout | None) -> Backend:
    """The tokenizer of a file, with the flags of its class.

    Args:
        path: tokenizer.json.
        config: The contents of tokenizer_config.json.
        layout: The tokenizer's class; None takes the file as it is.

    Raises:
        CheckpointError: the file is malformed, contradicts itself or tokenizer_config.json.
        UnsupportedError: it has a part that would make it slow without end, or random.
    """
    text = files.read_text(path)
    state = files.parse_json(text, where=str(path))
    if not isinstance(state, dict):
        raise CheckpointError("must hold a JSON object.", where=str(path))
    with calling("is not a tokenizer", str(path)):
        check_tokenizer(state, str(path))
        if layout is not None and _set_flags(state, config, layout, path):
            text = json.dumps(state)
        backend = Backend.from_str(text)
    _check_ids(backend, state, path)
    return backend


def _check_ids(backend: Backend, state: Step, path: Path) -> None:
    """Refuse added tokens whose ids the library does not keep: it numbers them itself."""
    for token in state.get("added_tokens") or []:
        content, declared = token["content"], token["id"]
        if content and backend.token_to_id(content) != declared:
            raise CheckpointError(
                f"token {content!r} should have id {declared}, but got {backend.token_to_id(content)}: the ids before "
                "it have a hole, or another token has its id.",
                where=str(path),
            )


def _set_flags(state: Step, config: Mapping[str, Any], layout: TokenizerLayout, path: Path) -> bool:
    """Set the class's flags in the file's steps, and return whether that changed them."""
    flags = {flag: config[flag] if config.get(flag) is not None else default for flag, default in layout.flags.items()}
    before = _steps(state)
    if "do_lower_case" in flags:
        _set_normalizer(state, flags, path)
        _set_unknown(state, config)
    if layout.unicode_form is not None and state.get("normalizer") is None:
        state["normalizer"] = {"type": layout.unicode_form}
    if "add_prefix_space" in flags:
        _set_prefix(state, flags, given="add_prefix_space" in config, path=path)
    return _steps(state) != before


def _steps(state: Step) -> str:
    unknown = (state.get("model") or {}).get("unk_token")
    return json.dumps([unknown, *(state.get(part) for part in ("normalizer", "pre_tokenizer", "decoder"))])


def _set_normalizer(state: Step, flags: Mapping[str, Any], path: Path) -> None:
    """Set lower case, accents and Chinese characters on the normaliser of WordPiece."""
    if state.get("normalizer") is None:
        state["normalizer"] = {"type": "BertNormalizer", "clean_text": True}
    found = list(_components(state["normalizer"], "BertNormalizer"))
    for step in found:
        step |= {field: flags[flag] for flag, field in _NORMALIZER_FIELDS.items()}
    lowers = any(_components(state["normalizer"], "Lowercase"))
    if not found and bool(flags["do_lower_case"]) != lowers:
        says = "lower-cases" if lowers else "does not lower-case"
        raise CheckpointError(
            f"tokenizer.json {says}, and do_lower_case of tokenizer_config.json is {flags['do_lower_case']} (the "
            "default of its class is true).",
            where=str(path.parent),
            hint="Set do_lower_case to what is true, or tokenizer_class to 'PreTrainedTokenizerFast', which takes "
            "tokenizer.json as it is.",
        )


def _set_unknown(state: Step, config: Mapping[str, Any]) -> None:
    """Set the token for unknown words, which the class gives to WordPiece."""
    unknown, model = token_text(config.get("unk_token")), state.get("model") or {}
    if unknown is not None and isinstance(model.get("vocab"), dict) and unknown in model["vocab"]:
        model["unk_token"] = unknown


def _set_prefix(state: Step, flags: Mapping[str, Any], *, given: bool, path: Path) -> None:
    """Set whether a text gets a space in front: on byte-level BPE, or on SentencePiece's marks."""
    prefix = bool(flags["add_prefix_space"])
    byte_level = list(_components(state.get("pre_tokenizer"), "ByteLevel"))
    for step in byte_level:
        step["add_prefix_space"] = prefix
    if "legacy" in flags and _is_prepending(state):
        state["normalizer"] = None
        state["pre_tokenizer"] = {"type": "Metaspace", "replacement": SPACE, "split": False}
    spaces = [*_components(state.get("pre_tokenizer"), "Metaspace"), *_components(state.get("decoder"), "Metaspace")]
    for step in spaces:
        step["prepend_scheme"] = ("first" if flags.get("legacy") is False else "always") if prefix else "never"
    if "legacy" in flags and spaces and not prefix:
        _drop_strip(state)
    if given and prefix and not byte_level and not spaces:
        raise CheckpointError(
            "add_prefix_space of tokenizer_config.json is true, and tokenizer.json has no step that adds a space.",
            where=str(path.parent),
            hint="Set it to false, or tokenizer_class to 'PreTrainedTokenizerFast', which takes tokenizer.json as it "
            "is.",
        )


def _is_prepending(state: Step) -> bool:
    """Whether the file marks spaces by a normaliser that also puts one in front, as older converters wrote it."""
    steps = _sequence(state.get("normalizer"), "normalizers")
    kinds = [step.get("type") for step in steps]
    return state.get("pre_tokenizer") is None and kinds == ["Prepend", "Replace"] and steps[0].get("prepend") == SPACE


def _drop_strip(state: Step) -> None:
    """Without a space in front, decoding takes none away."""
    decoder = state.get("decoder")
    if isinstance(decoder, dict) and decoder.get("type") == "Sequence":
        decoder["decoders"] = [step for step in decoder["decoders"] if step.get("type") != "Strip"]


def _sequence(step: Any, key: str) -> list[Step]:
    if not isinstance(step, dict):
        return []
    return list(step.get(key) or []) if step.get("type") == "Sequence" else [step]


def _components(step: Any, kind: str) -> Iterator[Step]:
    """Each step of a kind, in nested sequences too."""
    if not isinstance(step, dict):
        return
    if step.get("type") == kind:
        yield step
    for inner in ("normalizers", "pretokenizers", "decoders"):
        for each in step.get(inner) or []:
            yield from _components(each, kind)
