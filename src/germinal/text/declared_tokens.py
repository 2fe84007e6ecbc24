"""The special and added tokens that the files beside the vocabulary declare, in transformers' order of precedence.

- Where tokenizer_config.json has `added_tokens_decoder`, special_tokens_map.json and added_tokens.json are leftovers.
- Otherwise special_tokens_map.json wins over tokenizer_config.json, and added_tokens.json adds to tokenizer.json; lists
  of extra special tokens are joined, and of additional ones that of tokenizer_config.json counts.
- A token's flags are those of `added_tokens_decoder`, then of tokenizer.json, then of the entry that names it.
- A token that a role names is special, unless tokenizer.json says otherwise and `added_tokens_decoder` nothing. One
  that no vocabulary has follows the last id.

An id is never given anew: where the files disagree on a token's id, or the library would number it otherwise, that is
an error. (transformers numbers on in silence.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from germinal import files
from germinal.errors import CheckpointError
from germinal.text.library import calling
from germinal.text.tokenizer_checks import MAX_ADDED, check_added
from germinal.text.tokenizer_layout import TokenizerLayout

NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_SWITCHES = (
    "do_lower_case",
    "strip_accents",
    "tokenize_chinese_chars",
    "add_prefix_space",
    "legacy",
    "add_bos_token",
    "add_eos_token",
    "split_special_tokens",
    "separate_vocabs",
    "clean_up_tokenization_spaces",
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
)
_MOST_SENTINELS = 10_000


def read_settings(folder: Path) -> dict[str, Any]:
    """The contents of tokenizer_config.json, with the tokens that special_tokens_map.json names.

    Raises:
        CheckpointError: a file is malformed.
    """
    config, map = (_object(folder / name) for name in (CONFIG, MAP))
    for found, name in ((config, CONFIG), (map, MAP)):
        _check_entries(found, folder / name)
    if "added_tokens_decoder" in config:
        return config
    told = {key: value for key, value in map.items() if value is not None}
    if config.get("extra_special_tokens") or config.get("additional_special_tokens"):
        told.pop("additional_special_tokens", None)
    own, more = config.get("extra_special_tokens"), told.get("extra_special_tokens")
    if isinstance(own, list) and isinstance(more, list):
        told["extra_special_tokens"] = [*own, *(token for token in more if token not in own)]
    return {**config, **told}


def token_text(token: Any) -> str | None:
    """A special token is written as text, or as a mapping with its `content`; None if there is none."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) and token else None


def declare(backend: Backend, config: Mapping[str, Any], layout: TokenizerLayout | None, folder: Path) -> None:
    """Add the declared tokens to a tokenizer, with their flags and at their ids.

    Args:
        config: From `read_settings`, with the special tokens that the layout names.

    Raises:
        CheckpointError: two files give a token different ids, or an id two tokens.
    """
    ids, source = _declared(config, folder)
    named = {text: config[key] for key in _roles(config) if (text := token_text(config[key])) is not None}
    known = {
        token.content: {flag: getattr(token, flag) for flag in _FLAGS}
        for token in backend.get_added_tokens_decoder().values()
    }
    wanted: dict[str, dict[str, bool]] = {}
    for text, (_, flags) in sorted(ids.items(), key=lambda item: item[1][0]):
        wanted[text] = {**known.get(text, {}), **flags}
    for text, entry in named.items():
        if text in known and text not in wanted and "added_tokens_decoder" in config:
            continue  # left as tokenizer.json has it
        found = wanted.get(text) or known.get(text) or {"normalized": False, **_flags_of(entry, layout, config)}
        wanted[text] = {**found, "special": True}
    for entry in _extra(config, layout):
        extra = token_text(entry)
        if extra is not None and extra not in wanted and extra not in known:
            wanted[extra] = {"normalized": False, **_flags_of(entry, None, config), "special": True}
    check_added(wanted, str(folder))
    with calling("cannot add the declared tokens", str(folder)):
        backend.add_tokens([AddedToken(text, **flags) for text, flags in wanted.items()])
        _check_ids(backend, {content: id for content, (id, _) in ids.items()}, folder / source)


def _check_ids(backend: Backend, ids: Mapping[str, int], file: Path) -> None:
    for content, id in ids.items():
        found = backend.token_to_id(content)
        if found != id:
            other, beside = backend.id_to_token(id), _vocabulary_of(file.parent)
            reason = f"there is a hole before it in {beside}" if other is None else f"{beside} has {other!r} there"
            raise CheckpointError(
                f"token {content!r} should have id {id}, but got {found}: {reason}.",
                where=str(file),
                hint=f"Correct the id in {file.name}, or {beside}.",
            )
    texts = {id: token.content for id, token in backend.get_added_tokens_decoder().items()}
    for id in texts:
        text = backend.model.id_to_token(id)  # of the vocabulary itself
        if text not in (None, texts[id]):
            raise CheckpointError(
                f"tokens {text!r} and {texts[id]!r} have one id, {id}: the vocabulary's ids have holes.",
                where=str(file.parent),
            )


def _vocabulary_of(folder: Path) -> str:
    """What the file with the vocabulary is called."""
    return "tokenizer.json" if (folder / "tokenizer.json").exists() else "the vocabulary file"


def _declared(config: Mapping[str, Any], folder: Path) -> tuple[dict[str, tuple[int, dict[str, bool]]], str]:
    """Id and flags of each token that a file declares by its id, and the file's name."""
    if "added_tokens_decoder" in config:
        found: dict[str, tuple[int, dict[str, bool]]] = {}
        for key, token in (config["added_tokens_decoder"] or {}).items():
            found[token["content"]] = (int(key), {flag: token[flag] for flag in _FLAGS if flag in token})
        return found, CONFIG
    added = _object(folder / ADDED)
    _check_entries({"added_tokens_decoder": {str(id): {"content": text} for text, id in added.items()}}, folder / ADDED)
    special = {token_text(config[key]) for key in _roles(config)} | {token_text(each) for each in _extra(config, None)}
    return {
        text: (id, {"special": text in special, "normalized": text not in special}) for text, id in added.items()
    }, ADDED


def _roles(config: Mapping[str, Any]) -> list[str]:
    """Keys that name a special token: the usual roles, then those of one model ("image_token")."""
    own = [key for key in config if key.endswith("_token") and isinstance(config[key], str | Mapping)]
    return [*(key for key in NAMED_TOKENS if key in config), *(key for key in own if key not in NAMED_TOKENS)]


def _extra(config: Mapping[str, Any], layout: TokenizerLayout | None) -> Iterator[Any]:
    """Special tokens without a role."""
    listed = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    yield from listed.values() if isinstance(listed, Mapping) else listed
    if layout is not None and not listed:
        yield from (f"<extra_id_{i}>" for i in range(sentinel_count(config, layout)))


def sentinel_count(config: Mapping[str, Any], layout: TokenizerLayout) -> int:
    """Number of "<extra_id_i>" tokens: `extra_ids`, where the class has such tokens."""
    return int(config.get("extra_ids", layout.sentinels)) if layout.sentinels else 0


def _flags_of(entry: Any, layout: TokenizerLayout | None, config: Mapping[str, Any]) -> dict[str, bool]:
    """The flags in the entry that names a token; an entry without any has the layout's."""
    if isinstance(entry, Mapping):
        return {flag: entry[flag] for flag in _FLAGS if flag in entry}
    roles = () if layout is None else layout.lstrip
    return {"lstrip": True} if any(config.get(role) == entry for role in roles) else {}


def _object(path: Path) -> dict[str, Any]:
    return files.read_json_object(path) if path.exists() else {}


def _check_entries(config: Mapping[str, Any], file: Path) -> None:
    """Refuse entries that name tokens in a form that none has."""
    for key in NAMED_TOKENS:
        _check_token(config.get(key), key, file)
    for key in ("additional_special_tokens", "extra_special_tokens"):
        listed = config.get(key) or []
        if not isinstance(listed, list | Mapping):
            raise CheckpointError(f"must be a list or a mapping, not {listed!r:.80}.", where=f"{file}: {key}")
        for each in listed.values() if isinstance(listed, Mapping) else listed:
            _check_token(each, key, file)
    declared = config.get("added_tokens_decoder") or {}
    if not isinstance(declared, Mapping) or len(declared) > MAX_ADDED:
        raise CheckpointError(f"must map at most {MAX_ADDED:,} ids to tokens.", where=f"{file}: added_tokens_decoder")
    seen: set[str] = set()
    for id, token in declared.items():
        where = f"added_tokens_decoder[{id!r:.40}]"
        if not isinstance(id, str) or not id.isascii() or not id.isdigit() or len(id) > 9:
            raise CheckpointError("is not a token's id.", where=f"{file}: {where}")
        _check_token(token, where, file)
        content = token.get("content") if isinstance(token, Mapping) else None
        if not content or content in seen:
            raise CheckpointError("has no text of its own.", where=f"{file}: {where}")
        seen.add(content)
    number = config.get("extra_ids", 0)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _MOST_SENTINELS:
        raise CheckpointError(
            f"must be a whole number from 0 to {_MOST_SENTINELS:,}, not {number!r:.40}.", where=f"{file}: extra_ids"
        )
    for key in _SWITCHES:
        if not isinstance(config.get(key), bool | None):
            raise CheckpointError(f"must be true, false or null, not {config[key]!r:.40}.", where=f"{file}: {key}")
    inputs = config.get("model_input_names", [])
    if not isinstance(inputs, list) or not all(isinstance(name, str) for name in inputs):
        raise CheckpointError(f"must list names, not {inputs!r:.80}.", where=f"{file}: model_input_names")


def _check_token(token: Any, key: str, file: Path) -> None:
    flags = {} if not isinstance(token, Mapping) else {flag: token[flag] for flag in _FLAGS if flag in token}
    text = token.get("content", "") if isinstance(token, Mapping) else token
    if (text is not None and not isinstance(text, str)) or not all(isinstance(flag, bool) for flag in flags.values()):
        raise CheckpointError(
            f"must be a token's text, or a mapping with its 'content' and flags, not {token!r:.80}.",
            where=f"{file}: {key}",
        )
