"""Tokenizers from the formats older than tokenizer.json: vocab.txt, vocab.json with merges.txt, and SentencePiece.

These files hold the vocabulary only. How text is split beforehand and which special tokens go around it comes from the
family's `TokenizerLayout`; tokenizer_config.json may override the fields named here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from germinal.errors import CheckpointError, SettingError, UnsupportedError
from germinal.text.sentencepiece_file import read_sentencepiece, sentencepiece_backend
from germinal.text.tokenizer_layout import TokenizerLayout

SENTENCEPIECE = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "source.spm")
_NEWLINE = "\n"


def bare_files(folder: Path) -> tuple[Path, ...]:
    """The vocabulary files of a folder; empty if it has none."""
    for name in SENTENCEPIECE:
        if (folder / name).is_file():
            return (folder / name,)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return (folder / "vocab.json", folder / "merges.txt")
    return (folder / "vocab.txt",) if (folder / "vocab.txt").is_file() else ()


def bare_backend(folder: Path, config: dict[str, Any], layout: TokenizerLayout) -> Backend:
    """Build the tokenizer of a folder's vocabulary files.

    Args:
        config: The contents of tokenizer_config.json. Special tokens that the layout names and the vocabulary has are
            added to it.

    Raises:
        CheckpointError: a file is malformed, or the files contradict each other.
        UnsupportedError: the kind of vocabulary is not supported.
    """
    files = bare_files(folder)
    if files[0].name in SENTENCEPIECE:
        backend = _sentencepiece(files[0], config, layout)
    elif len(files) == 2:
        backend = _byte_level(*files, config, layout)
    else:
        backend = _wordpiece(files[0], config, layout)
    for role, text in layout.special_tokens.items():
        if config.get(role, "") == "" and backend.token_to_id(text) is not None:
            config[role] = text
    _add_tokens(backend, folder, config, layout)
    _add_borders(backend, config, layout, folder)
    return backend


def _wordpiece(file: Path, config: Mapping[str, Any], layout: TokenizerLayout) -> Backend:
    """WordPiece with BERT's normaliser (Devlin et al. 2018, arXiv 1810.04805)."""
    with file.open(encoding="utf-8", newline=_NEWLINE) as lines:
        vocabulary = {line.rstrip("\r\n"): id for id, line in enumerate(lines)}
    unknown = _text(config.get("unk_token")) or layout.special_tokens.get("unk_token", "[UNK]")
    if unknown not in vocabulary:
        raise CheckpointError(f"has no {unknown}, the token for unknown words.", where=str(file))
    backend = Backend(models.WordPiece(vocab=vocabulary, unk_token=unknown, max_input_chars_per_word=100))
    lowercase = config.get("do_lower_case", True)
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),  # None: follows lowercase
        lowercase=lowercase,
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return backend


def _byte_level(file: Path, merges_file: Path, config: Mapping[str, Any], layout: TokenizerLayout) -> Backend:
    """Byte-level BPE as in GPT-2 (Radford et al. 2019), or with the layout's own pattern for splitting text."""
    lines = merges_file.read_text(encoding="utf-8").split("\n")
    pairs = [tuple(line.split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
    if not all(len(pair) == 2 for pair in pairs):
        raise CheckpointError("has a line that is not a pair of tokens.", where=str(merges_file))
    try:
        backend = Backend(models.BPE(vocab=_vocabulary(file), merges=pairs))  # type: ignore[arg-type]
    except CheckpointError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(
            f"vocabulary and merges contradict each other: {error}.", where=str(file.parent)
        ) from error
    prefix = bool(config.get("add_prefix_space", False))
    if layout.unicode_form is not None:
        backend.normalizer = getattr(normalizers, layout.unicode_form)()
    if layout.split is None:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    else:
        pieces = pre_tokenizers.Split(Regex(layout.split), behavior="isolated")
        whole = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([pieces, whole])
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(file: Path, config: Mapping[str, Any], layout: TokenizerLayout) -> Backend:
    shared = file.parent / "vocab.json"
    if config.get("separate_vocabs"):
        raise UnsupportedError(
            "source and target have separate vocabularies (separate_vocabs), which is not supported.",
            where=str(file.parent),
        )
    ids = _vocabulary(shared) if file.name == "source.spm" else None
    read = read_sentencepiece(file)
    try:
        return sentencepiece_backend(
            read,
            sentinels=int(config.get("extra_ids", layout.sentinels)),
            ids=ids,
            prefix_once=config.get("legacy") is False,
        )
    except (CheckpointError, SettingError):
        raise
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"no tokenizer can be built from its pieces: {error}.", where=str(file)) from error


def _vocabulary(file: Path) -> dict[str, int]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"is not valid JSON: {error}.", where=str(file)) from error
    if not isinstance(value, dict) or not all(isinstance(id, int) for id in value.values()):
        raise CheckpointError("must map each token to its id.", where=str(file))
    return value


def _add_tokens(backend: Backend, folder: Path, config: Mapping[str, Any], layout: TokenizerLayout) -> None:
    """Mark the named tokens as special, and add the tokens of added_tokens.json with their ids."""
    named = {role: config[role] for role in config if role.endswith("_token") and _text(config[role])}
    for role, token in named.items():
        flags = {"lstrip": role in layout.lstrip}
        if isinstance(token, Mapping):
            flags |= {key: bool(token[key]) for key in ("lstrip", "rstrip", "single_word") if key in token}
        content = _text(token)
        if content is not None and backend.token_to_id(content) is not None:
            backend.add_special_tokens([AddedToken(content, normalized=False, special=True, **flags)])
    extra = folder / "added_tokens.json"
    if not extra.is_file():
        return
    for text, id in sorted(_vocabulary(extra).items(), key=lambda item: item[1]):
        backend.add_tokens([AddedToken(text, normalized=False, special=text in map(_text, named.values()))])
        if backend.token_to_id(text) != id:
            raise CheckpointError(
                f"token {text!r} should have id {id}, but got {backend.token_to_id(text)}.", where=str(extra)
            )


def _add_borders(backend: Backend, config: Mapping[str, Any], layout: TokenizerLayout, folder: Path) -> None:
    """Add special tokens around a text: the layout's template, with bos and eos as in tokenizer_config.json."""
    texts = {role: text for role in config if role.endswith("_token") and (text := _text(config[role])) is not None}
    used: dict[str, int] = {}
    templates = []
    for template in (layout.single, layout.pair):
        parts = []
        for part in _with_choices(template.split(), config):
            role, colon, segment = part.partition(":")
            if role.startswith("$"):
                parts.append(part)
                continue
            text = texts.get(role)
            id = None if text is None else backend.token_to_id(text)
            if text is None or id is None:
                raise CheckpointError(
                    f"the vocabulary lacks the {role} that the family puts around a text.", where=str(folder)
                )
            used[text] = id
            parts.append(f"{text}{colon}{segment}")
        templates.append(parts)
    if not used:
        return
    template_processor = processors.TemplateProcessing(
        single=templates[0], pair=templates[1], special_tokens=list(used.items())
    )
    if not layout.trim_offsets:
        backend.post_processor = template_processor
        return
    prefix = bool(config.get("add_prefix_space", False))
    trimmed = processors.ByteLevel(add_prefix_space=prefix, trim_offsets=True)
    backend.post_processor = processors.Sequence([trimmed, template_processor])


def _with_choices(parts: list[str], config: Mapping[str, Any]) -> list[str]:
    """The template's parts after applying `add_bos_token` and `add_eos_token`, where the config has them."""
    for role, before in (("bos_token", True), ("eos_token", False)):
        wanted = config.get(f"add_{role}")
        if wanted is None:
            continue
        parts = [part for part in parts if part.partition(":")[0] != role]
        if not wanted:
            continue
        around: list[str] = []
        for part in parts:
            if not part.startswith("$"):
                around.append(part)
                continue
            border = role + part[2:]
            around += [border, part] if before else [part, border]
        parts = around
    return parts


def _text(token: Any) -> str | None:
    """A special token is written as text, or as a mapping with its `content`."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) and token else None
