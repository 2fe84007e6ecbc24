"""The tokenizer of a Hugging Face folder, out of all the files that speak of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from germinal.errors import CheckpointError, UnsupportedError
from germinal.text.bare_vocabulary import add_borders, bare_backend, bare_files
from germinal.text.declared_tokens import declare
from germinal.text.tokenizer_json import read_tokenizer_json
from germinal.text.tokenizer_layout import TokenizerLayout

MODEL_INPUTS = (("input_ids", "attention_mask"), ("input_ids", "token_type_ids", "attention_mask"))
"""`model_input_names` of classes without token types and of those with them."""


def read_backend(folder: Path, config: dict[str, Any], layout: TokenizerLayout | None) -> Backend:
    """The tokenizer of a folder's files: its vocabulary, the tokens declared beside it, and what goes around a text.

    Args:
        config: From `read_settings`. It gets the special tokens that the layout names, and `model_input_names`.
        layout: What the tokenizer's class sets; None takes tokenizer.json as it is.

    Raises:
        CheckpointError: a file is missing or malformed, or two contradict each other.
        UnsupportedError: the folder has vocabulary files only, and no layout was given.
    """
    path = folder / "tokenizer.json"
    whole = path.exists()
    if whole:
        backend = read_tokenizer_json(path, config, layout)
    else:
        layout = _required_layout(folder, layout)
        backend = bare_backend(folder, config, layout)
    for role, text in ({} if layout is None else layout.special_tokens).items():
        if config.get(role, "") == "" and backend.token_to_id(text) is not None:
            config[role] = text
    declare(backend, config, layout, folder)
    if layout is not None and (not whole or layout.borders == "class"):
        add_borders(backend, config, layout, folder, instead=whole)
    config.setdefault("model_input_names", list(MODEL_INPUTS[layout is not None and layout.token_types]))
    backend.encode_special_tokens = config.get("split_special_tokens") is True
    return backend


def _required_layout(folder: Path, layout: TokenizerLayout | None) -> TokenizerLayout:
    files = bare_files(folder)
    if not files:
        raise CheckpointError("no tokenizer.json, so the model cannot read text.", where=str(folder))
    if layout is None:
        raise UnsupportedError(
            f"the tokenizer is in {files[0].name}, and the model family that defines how to read it is unknown.",
            where=str(folder),
            hint="Add a tokenizer.json, or the config.json of a family whose tokenizer is in such a file.",
        )
    return layout
