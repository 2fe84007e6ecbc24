"""Tokenizers from the formats older than tokenizer.json: vocab.txt, vocab.json with merges.txt, and SentencePiece.

These files hold the vocabulary only. How text is split beforehand and which special tokens go around it comes from the
family's `TokenizerLayout`; tokenizer_config.json may override the fields named here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from germinal import files
from germinal.errors import CheckpointError, UnsupportedError
from germinal.text.declared_tokens import sentinel_count, token_text
from germinal.text.library import calling
from germinal.text.sentencepiece_file import read_sentencepiece, sentencepiece_backend
from germinal.text.tokenizer_layout import TokenizerLayout

SENTENCEPIECE = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "source.spm")
_NEWLINE = "\n"


def bare_files(folder: Path, layout: TokenizerLayout | None = None) -> tuple[Path, ...]:
    """The vocabulary files of a folder: those that the class reads, where there are several kinds; empty for none."""
    kinds = {
        "sentencepiece": tuple(folder / name for name in SENTENCEPIECE if (folder / name).exists())[:1],
        "vocab.json": (folder / "vocab.json", folder / "merges.txt"),
        "vocab.txt": (folder / "vocab.txt",),
    }
    found = {kind: paths for kind, paths in kinds.items() if paths and all(path.exists() for path in paths)}
    wanted = None if layout is None else layout.vocabulary
    return found.get(wanted or "") or next(iter(found.values()), ())


def bare_backend(folder: Path, config: dict[str, Any], layout: TokenizerLayout) -> Backend:
    """Build the tokenizer of a folder's vocabulary files, without the tokens that other files add.

    Args:
        config: The contents of tokenizer_config.json.

    Raises:
        CheckpointError: a file is malformed, or the files contradict each other.
        UnsupportedError: the kind of vocabulary is not supported.
    """
    vocabulary = bare_files(folder, layout)
    with calling("no tokenizer can be built from it", str(vocabulary[0])):
        if vocabulary[0].name in SENTENCEPIECE:
            return _sentencepiece(vocabulary[0], config, layout)
        if len(vocabulary) == 2:
            return _byte_level(*vocabulary, config, layout)
        return _wordpiece(vocabulary[0], config, layout)


def _wordpiece(file: Path, config: Mapping[str, Any], layout: TokenizerLayout) -> Backend:
    """WordPiece with BERT's normaliser (Devlin et al. 2018, arXiv 1810.04805)."""
    lines = files.read_text(file).split(_NEWLINE)
    vocabulary = {line.rstrip("\r"): id for id, line in enumerate(lines) if line or id < len(lines) - 1}
    unknown = token_text(config.get("unk_token")) or layout.special_tokens.get("unk_token", "[UNK]")
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
    lines = files.read_text(merges_file).split(_NEWLINE)
    pairs = [tuple(line.split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
    if not all(len(pair) == 2 for pair in pairs):
        raise CheckpointError("has a line that is not a pair of tokens.", where=str(merges_file))
    with calling("vocabulary and merges contradict each other", str(file.parent)):
        backend = Backend(models.BPE(vocab=_vocabulary(file), merges=pairs))  # type: ignore[arg-type]
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
    return sentencepiece_backend(
        read_sentencepiece(file),
        sentinels=sentinel_count(config, layout),
        ids=ids,
        prefix_once=config.get("legacy") is False,
    )


def _vocabulary(file: Path) -> dict[str, int]:
    value = files.read_json_object(file)
    if not all(isinstance(id, int) and not isinstance(id, bool) and 0 <= id < 1 << 32 for id in value.values()):
        raise CheckpointError("must map each token to its id.", where=str(file))
    return value


def add_borders(
    backend: Backend, config: Mapping[str, Any], layout: TokenizerLayout, folder: Path, *, instead: bool = False
) -> None:
    """Put special tokens around a text: the layout's template, with `add_bos_token` and `add_eos_token` of
    tokenizer_config.json where the class reads them.

    Args:
        instead: The tokenizer is from a tokenizer.json. Its own template stays where it does the same, where it knows
            more tokens than the layout, and where the vocabulary lacks the layout's; bos and eos are the file's matter.

    Raises:
        CheckpointError: the vocabulary lacks a token, and there is no tokenizer.json.
    """
    texts = {role: text for role in config if role.endswith("_token") and (text := token_text(config[role]))}
    used: dict[str, int] = {}
    templates = []
    for template in (layout.single, layout.pair):
        parts = []
        fixed = instead or layout.borders == "class"
        for part in template.split() if fixed else _with_choices(template.split(), config):
            role, colon, segment = part.partition(":")
            if role.startswith("$"):
                parts.append(part)
                continue
            text = texts.get(role)
            id = None if text is None else backend.token_to_id(text)
            if text is None or id is None:
                if instead:
                    return
                raise CheckpointError(
                    f"the vocabulary lacks the {role} that the family puts around a text.", where=str(folder)
                )
            used[text] = id
            parts.append(f"{text}{colon}{segment}")
        templates.append(parts)
    if not used or (instead and len(_template_tokens(backend)) > len(used)):
        return
    template_processor: processors.PostProcessor = processors.TemplateProcessing(
        single=templates[0], pair=templates[1], special_tokens=list(used.items())
    )
    if layout.trim_offsets:
        prefix = bool(config.get("add_prefix_space", False))
        trimmed = processors.ByteLevel(add_prefix_space=prefix, trim_offsets=True)
        template_processor = processors.Sequence([trimmed, template_processor])
    if not instead or _borders(backend, template_processor) != _borders(backend, backend.post_processor):
        backend.post_processor = template_processor


def _template_tokens(backend: Backend) -> set[str]:
    """The special tokens in the template of a tokenizer.json."""
    state = {} if backend.post_processor is None else json.loads(backend.post_processor.__getstate__())
    steps = state.get("processors", [state])
    return {token for step in steps for token in step.get("special_tokens", {})}


def _borders(backend: Backend, processor: processors.PostProcessor | None) -> list[tuple[list[int], list[int]]]:
    """Ids and segments of a probe and of a pair of probes."""
    probe = backend.encode("a", add_special_tokens=False)
    found = []
    for pair in (None, probe):
        encoding = probe if pair is None else Encoding.merge([probe, probe])
        if processor is not None:
            encoding = processor.process(probe, pair, True)
        found.append((encoding.ids, encoding.type_ids))
    return found


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
