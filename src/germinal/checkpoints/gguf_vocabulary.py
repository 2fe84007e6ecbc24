"""A tokenizer as the metadata of a GGUF file: the inverse of `gguf_tokenizer`.

What the format cannot express is refused, since a tokenizer that is nearly right is wrong. The one exception is the
space that is put before a text, as in the sentencepiece library and llama.cpp: some tokenizer.json files leave it out
before a text that begins with a space, or after special tokens within a text.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from germinal.checkpoints.gguf_chat_templates import chat_template_metadata
from germinal.checkpoints.gguf_pre_tokenizers import name_of
from germinal.checkpoints.gguf_tokenizer import (
    BYTE_LEVEL,
    ENDS,
    KEY,
    ROLES,
    SENTENCEPIECE,
    TWIN,
    UNIGRAM,
    WORDPIECE,
    Kind,
)
from germinal.errors import UnsupportedError
from germinal.text.sentencepiece_file import SPACE, merges_by_score
from germinal.text.tokenizer import Tokenizer

_FILLER = "[PAD{}]".format
_FILLER_SCORE = -1e4
_OF_SPACES = frozenset(rf" {SPACE}{{2,}}\\Az+|^$")
"""The characters of patterns that match spaces."""
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""The keys of the tokens that end an answer, in the order in which they are used."""


def tokenizer_metadata(
    tokenizer: Tokenizer, vocab_size: int, end_ids: Sequence[int] = (), ends_answers: bool = True
) -> dict[str, Any]:
    """The metadata of a tokenizer.

    Args:
        tokenizer: The tokenizer.
        vocab_size: Rows of the embedding; rows beyond the vocabulary get unused tokens.
        end_ids: The tokens that end an answer, if they are not the tokenizer's end-of-sequence token.
        ends_answers: Whether the model generates text, and so needs such a token.

    Raises:
        UnsupportedError: GGUF cannot express what the tokenizer does.
    """
    state = json.loads(tokenizer.backend.to_str())
    tokens = [tokenizer.backend.id_to_token(id) for id in range(vocab_size)]
    kinds = _kinds(tokenizer, tokens)
    texts = [_FILLER(id) if token is None else token.rstrip(TWIN) for id, token in enumerate(tokens)]
    metadata = _model_metadata(tokenizer, state, texts, kinds)
    kind = metadata[KEY("model")]
    if kind == WORDPIECE:
        texts = [_marked(text, of) for text, of in zip(texts, kinds, strict=True)]
    if len(set(texts)) != len(texts):
        raise _inexpressible(tokenizer, "has two tokens that would be written alike")
    metadata |= {KEY("tokens"): texts, KEY("token_type"): kinds}
    metadata |= _special_tokens(tokenizer, kind, end_ids, ends_answers)
    return metadata | chat_template_metadata(tokenizer.chat_template)


def _inexpressible(tokenizer: Tokenizer, what: str, hint: str | None = None) -> UnsupportedError:
    return UnsupportedError(f"the tokenizer {what}, which GGUF cannot express.", where=tokenizer.name, hint=hint)


def _kinds(tokenizer: Tokenizer, tokens: Sequence[str | None]) -> list[int]:
    added = tokenizer.backend.get_added_tokens_decoder()
    for id, token in added.items():
        if (token.lstrip or token.rstrip or token.single_word) and id != tokenizer.mask_id:
            raise _inexpressible(
                tokenizer, f"strips white space around {token.content!r}, or matches it as a whole word only"
            )

    def kind(id: int, token: str | None) -> Kind:
        if token is None:
            return Kind.UNUSED
        if id in tokenizer.special_ids:
            return Kind.CONTROL
        return Kind.USER_DEFINED if id in added else Kind.NORMAL

    return [int(kind(id, token)) for id, token in enumerate(tokens)]


def _model_metadata(
    tokenizer: Tokenizer, state: Mapping[str, Any], texts: list[str], kinds: list[int]
) -> dict[str, Any]:
    """Model, pre-tokenizer, merges or scores; also updates `kinds` with the unknown and byte tokens of the model."""
    model = state["model"]
    if model.get("dropout") or model.get("end_of_word_suffix"):
        raise _inexpressible(tokenizer, "uses dropout or an end-of-word suffix")
    if model["type"] == "WordPiece":
        return _wordpiece(tokenizer, state)
    if model["type"] == "Unigram":
        return _unigram(tokenizer, state, texts, kinds)
    if model["type"] == "BPE" and model.get("byte_fallback"):
        return _sentencepiece(tokenizer, state, texts, kinds)
    if model["type"] == "BPE" and not model.get("continuing_subword_prefix"):
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        name = name_of(tokenizer.backend, tokenizer.name)
        return {KEY("model"): BYTE_LEVEL, KEY("pre"): name, KEY("merges"): merges}
    raise _inexpressible(tokenizer, f"is a {model['type']} model with other options than usual")


def _wordpiece(tokenizer: Tokenizer, state: Mapping[str, Any]) -> dict[str, Any]:
    normalizer, splitter = state["normalizer"] or {}, state["pre_tokenizer"] or {}
    if (normalizer.get("type"), splitter.get("type")) != ("BertNormalizer", "BertPreTokenizer"):
        raise _inexpressible(tokenizer, "has another normaliser or pre-tokenizer than BERT's")
    if not (normalizer["clean_text"] and normalizer["handle_chinese_chars"]):
        raise _inexpressible(tokenizer, "keeps control characters, or does not separate Chinese characters")
    if state["model"]["continuing_subword_prefix"] != "##":
        raise _inexpressible(tokenizer, "marks continuations of a word otherwise than by ##")
    accents = normalizer["strip_accents"]
    return {
        KEY("model"): WORDPIECE,
        KEY("pre"): "default",
        KEY("unknown_token_id"): tokenizer.backend.token_to_id(state["model"]["unk_token"]),
        KEY("normalizer.lowercase"): normalizer["lowercase"],
        KEY("normalizer.strip_accents"): normalizer["lowercase"] if accents is None else accents,
    }


def _marked(text: str, kind: int) -> str:
    """A WordPiece token as in GGUF, which marks beginnings of a word, while vocab.txt marks continuations."""
    if kind in (Kind.CONTROL, Kind.UNUSED):
        return text
    return text.removeprefix("##") if text.startswith("##") else SPACE + text


def _unigram(tokenizer: Tokenizer, state: Mapping[str, Any], texts: list[str], kinds: list[int]) -> dict[str, Any]:
    model = state["model"]
    if model.get("byte_fallback") or model.get("unk_id") is None:
        raise _inexpressible(tokenizer, "has byte fallback or no unknown token")
    scores = [float(score) for _, score in model["vocab"]][: len(texts)]
    scores += [_FILLER_SCORE] * (len(texts) - len(scores))
    kinds[model["unk_id"]] = Kind.UNKNOWN
    steps = _steps(state)
    charsmap = next((step["precompiled_charsmap"] for step in steps if step["type"] == "Precompiled"), "")
    spaces = any(
        step["type"] in ("WhitespaceSplit", "Strip") or "{2,}" in str(step.get("pattern", "")) for step in steps
    )
    _refuse_steps(tokenizer, steps, "Precompiled", "WhitespaceSplit", "Strip")
    metadata = {
        KEY("model"): UNIGRAM,
        KEY("pre"): "default",
        KEY("scores"): scores,
        KEY("unknown_token_id"): model["unk_id"],
        KEY("add_space_prefix"): _prefixed(steps),
        KEY("remove_extra_whitespaces"): spaces,
    }
    return metadata | ({KEY("precompiled_charsmap"): base64.b64decode(charsmap)} if charsmap else {})


def _sentencepiece(
    tokenizer: Tokenizer, state: Mapping[str, Any], texts: list[str], kinds: list[int]
) -> dict[str, Any]:
    """SentencePiece's BPE, with scores of tokens in place of tokenizer.json's ranked merges."""
    steps = _steps(state)
    # Some tokenizers also split at spaces, after these have been replaced, which has no effect.
    steps = [step for step in steps if step.get("pattern") != {"String": " "} or step["type"] != "Split"]
    _refuse_steps(tokenizer, steps)
    if any("{2,}" in str(step.get("pattern", "")) for step in steps):
        raise _inexpressible(tokenizer, "removes extra white space")
    unknown = tokenizer.backend.token_to_id(state["model"].get("unk_token") or "")
    for id, text in enumerate(texts):
        if kinds[id] == Kind.NORMAL and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            kinds[id] = Kind.BYTE
    if unknown is not None:
        kinds[unknown] = Kind.UNKNOWN
    metadata = {
        KEY("model"): SENTENCEPIECE,
        KEY("pre"): "default",
        KEY("scores"): _scores(tokenizer, state["model"]["merges"], texts, kinds),
        KEY("add_space_prefix"): _prefixed(steps),
    }
    return metadata | ({} if unknown is None else {KEY("unknown_token_id"): unknown})


def _scores(tokenizer: Tokenizer, merges: list[Any], texts: list[str], kinds: list[int]) -> list[float]:
    """A score for each token: the earlier its merges, the higher. The scores must give back exactly the same merges."""
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in merges]
    ranks: dict[str, int] = {}
    for left, right in pairs:
        ranks.setdefault(left + right, len(ranks))
    normal = {text: id for id, text in enumerate(texts) if kinds[id] == Kind.NORMAL}
    scores = {text: (-float(ranks.get(text, len(ranks))), id) for text, id in normal.items()}
    expected = merges_by_score(scores)
    if [left + right for left, right in pairs] != [left + right for left, right in expected] or set(pairs) != set(
        expected
    ):
        raise _inexpressible(tokenizer, "has merges that do not follow from scores of its tokens")
    return [scores[text][0] if text in scores else 0.0 for text in texts]


def _steps(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The normaliser's and pre-tokenizer's steps, in order."""
    steps: list[dict[str, Any]] = []
    for part, several in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        found = state[part]
        if found is not None:
            steps += found.get(several, [found])
    return steps


def _refuse_steps(tokenizer: Tokenizer, steps: list[dict[str, Any]], *known: str) -> None:
    """Refuse steps other than `known` ones and those that replace, add or remove spaces."""
    for step in steps:
        pattern = "".join(step.get("pattern", {}).values())
        if step["type"] not in (*known, "Replace", "Metaspace", "Prepend") or not set(pattern) <= _OF_SPACES:
            raise _inexpressible(tokenizer, f"has an additional step ({step['type']})")


def _prefixed(steps: list[dict[str, Any]]) -> bool:
    """Whether a space is put before a text."""
    return any(
        step["type"] == "Prepend" or (step["type"] == "Metaspace" and step["prepend_scheme"] != "never")
        for step in steps
    )


def _special_tokens(tokenizer: Tokenizer, kind: str, end_ids: Sequence[int], ends_answers: bool) -> dict[str, Any]:
    """Special tokens, and which of them go around a text."""
    ids = {role: tokenizer.backend.token_to_id(text) for role, text in tokenizer.special_tokens.items()}
    first, last = _around_a_text(tokenizer)
    if kind == WORDPIECE:
        if first is None or last is None:
            raise _inexpressible(tokenizer, "does not add a token before and after every text")
        ids |= {"cls_token": first, "bos_token": first, "sep_token": last}
    else:
        for role, id in (("bos_token", first), ("eos_token", last)):
            if id is not None and ids.setdefault(role, id) != id:
                raise _inexpressible(tokenizer, f"adds another token to a text than its {role}")
    ends = list(dict.fromkeys(end_ids)) or [id for id in (ids.get("eos_token"),) if id is not None]
    ends[1:] = [id for id in ends[1:] if tokenizer.backend.id_to_token(id) not in ENDS]  # the others need no key
    if len(ends) > len(_ENDS):
        raise _inexpressible(tokenizer, f"has {len(ends)} tokens that end an answer")
    if not ends and ends_answers:
        raise UnsupportedError(
            "no token ends an answer; programs that read GGUF would then choose a wrong one.",
            where=tokenizer.name,
            hint="Set eos_token_id in generation_config.json.",
        )
    if last is not None and kind != WORDPIECE and ends[0] != last:
        raise _inexpressible(tokenizer, "ends texts with another token than answers")
    ids.pop("eos_token", None)
    named = {KEY(ROLES[role]): id for role, id in ids.items() if id is not None}
    named |= {KEY(key): id for key, id in zip(_ENDS, ends, strict=False)}
    return named | {
        KEY("add_bos_token"): first is not None,
        KEY("add_eos_token"): last is not None and kind != WORDPIECE,
    }


def _around_a_text(tokenizer: Tokenizer) -> tuple[int | None, int | None]:
    """The token before every text, and the one after."""
    bare, whole = tokenizer.encode("a", add_special_tokens=False), tokenizer.encode("a")
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            before, after = whole[:start], whole[start + len(bare) :]
            if len(before) <= 1 and len(after) <= 1:
                return next(iter(before), None), next(iter(after), None)
    raise _inexpressible(tokenizer, "adds several tokens before or after a text")
