"""How a checkpoint makes one vector of a text: sentence-transformers' files (Reimers and Gurevych, arXiv 1908.10084).

modules.json lists the modules in order: the network, a pooling, layers. What becomes of a text before the network is in
sentence_bert_config.json; prompts to put before it ("query: "), and how much of a vector to keep, are in
config_sentence_transformers.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers

from germinal import storage
from germinal.checkpoints.json_file import read_json, read_json_list
from germinal.checkpoints.references import refuse_escape
from germinal.checkpoints.sentence_layers import READERS, Layer, UnitLength
from germinal.errors import CheckpointError, UnsupportedError

_MODES = {
    "cls": "first",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weightedmean",
    "lasttoken": "last",
}
"""Published name -> ours, in the order in which the vectors of flags are joined."""
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The flags of versions before `pooling_mode`, in the same order."""
_MODULES = "modules.json"
_OPTIONS = "config_sentence_transformers.json"
_TEXTS = "sentence_bert_config.json"
_TOKENIZER_SETTINGS = ("processor_kwargs", "tokenizer_args")
_WITHOUT_EFFECT = (
    "use_fast",
    "trust_remote_code",
    "revision",
    "cache_dir",
    "token",
    "local_files_only",
    "padding_side",
)
_WHOLE_TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}
_NAMED_PROMPTS = ("query", "document")
"""Prompts that every model has; they are empty if the checkpoint gives no text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """How the hidden states of a text become one vector.

    Attributes:
        modes: One or more of "mean", "weightedmean" (by position), "mean_sqrt_len" (the sum over the root of the
            length), "max", "first" and "last" token, whose vectors are joined; or "pooler" (the head of that name).
        include_prompt: Whether the tokens of the prompt are pooled too.
        layers: What the vector goes through after that.
        truncate_dim: How many of the vector's first numbers are kept; None is all.
        max_tokens: Longer texts are cut to so many tokens, special tokens included; None cuts none.
        prompts: Texts to put before a text, by name ("query", "passage").
        default_prompt: The name of the prompt that is used by default, or None.
    """

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    layers: tuple[Layer, ...] = ()
    truncate_dim: int | None = None
    max_tokens: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None

    @property
    def normalized(self) -> bool:
        """Whether vectors have length 1 in the end."""
        return self.layers[-1:] == (UnitLength(),)

    def width(self, hidden_size: int) -> int:
        """How many numbers a vector has."""
        whole = next((layer.width for layer in reversed(self.layers) if layer.width), len(self.modes) * hidden_size)
        return min(whole, self.truncate_dim or whole)


def read_pooling(folder: Path, hidden_size: int) -> Pooling | None:
    """The pooling of a folder, or None if it has none.

    Args:
        folder: The folder.
        hidden_size: D of its network.

    Raises:
        CheckpointError: a file is missing or malformed.
        UnsupportedError: a module is not supported, or modules are in an unsupported order.
    """
    path = folder / _MODULES
    if not path.is_file():
        return None
    modules = [(str(module.get("type", "")).rpartition(".")[2], module) for module in read_json_list(path)]
    found = [(kind, folder / _inside(module.get("path", ""), path)) for kind, module in modules if kind != "Dropout"]
    if [kind for kind, _ in found] == ["Transformer"]:
        return None
    _check_order([kind for kind, _ in found], path)
    modes, include_prompt = _read_modes(found[1][1] / "config.json")
    layers: list[Layer] = []
    width = len(modes) * hidden_size
    for kind, place in found[2:]:
        layers.append(READERS[kind](place, width))
        width = layers[-1].width or width
    prompts, default, truncate_dim = _read_options(folder / _OPTIONS)
    return Pooling(
        modes=modes,
        include_prompt=include_prompt,
        layers=tuple(layers),
        truncate_dim=truncate_dim,
        max_tokens=_read_max_tokens(_text_settings(folder)),
        prompts=prompts,
        default_prompt=default,
    )


def lowers_case(folder: Path) -> bool:
    """Whether the folder's texts lose their capitals before they are tokenized."""
    return (folder / _MODULES).is_file() and bool(_text_settings(folder)[0].get("do_lower_case"))


def lower_case(backend: tokenizers.Tokenizer) -> None:
    """Have a tokenizer lose capitals first."""
    normalizer, lowercase = backend.normalizer, tokenizers.normalizers.Lowercase()
    backend.normalizer = lowercase if normalizer is None else tokenizers.normalizers.Sequence([lowercase, normalizer])


def write_pooling(folder: Path, pooling: Pooling, hidden_size: int) -> None:
    """Write a pooling in sentence-transformers' files; nothing for "pooler", which has no module there."""
    if "pooler" in pooling.modes:
        return
    kinds = ["Transformer", "Pooling", *(layer.kind for layer in pooling.layers)]
    paths = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds[1:], start=1))]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    storage.write_json(folder / _MODULES, modules)
    storage.write_json(folder / paths[1] / "config.json", _described(pooling, hidden_size))
    for layer, path in zip(pooling.layers, paths[2:], strict=True):
        layer.write(folder / path)
    if pooling.max_tokens is not None:
        storage.write_json(folder / _TEXTS, {"max_seq_length": pooling.max_tokens, "do_lower_case": False})
    options: dict[str, Any] = {}
    if pooling.prompts:
        options |= {"prompts": dict(pooling.prompts), "default_prompt_name": pooling.default_prompt}
    if pooling.truncate_dim is not None:
        options["truncate_dim"] = pooling.truncate_dim
    if options:
        storage.write_json(folder / _OPTIONS, options)


def _described(pooling: Pooling, hidden_size: int) -> dict[str, Any]:
    """The contents of the pooling's config.json, in flags where these can say it, which older versions read too."""
    names = [name for name, ours in _MODES.items() if ours in pooling.modes]
    described: dict[str, Any] = {"word_embedding_dimension": hidden_size}
    if [_MODES[name] for name in names] == list(pooling.modes):
        described |= {flag: name in names for flag, name in _FLAGS.items()}
    else:
        published = {ours: name for name, ours in _MODES.items()}
        described["pooling_mode"] = [published[mode] for mode in pooling.modes]
    return described | {"include_prompt": pooling.include_prompt}


def _check_order(kinds: Sequence[str], path: Path) -> None:
    known = ["Transformer", "Pooling", *READERS]
    if strange := [kind for kind in kinds if kind not in known]:
        raise UnsupportedError(
            f"the module '{strange[0]}' is not supported.", where=str(path), hint=f"Known: {', '.join(sorted(known))}."
        )
    if list(kinds[:2]) != known[:2] or any(kind in known[:2] for kind in kinds[2:]):
        raise UnsupportedError(
            f"the modules are in an unsupported order: {', '.join(kinds)}.",
            where=str(path),
            hint="The supported order is Transformer, Pooling, then any others.",
        )


def _inside(name: Any, where: Path) -> str:
    if not isinstance(name, str):
        raise CheckpointError(f"the path of a module must be a text, not {name!r:.80}.", where=str(where))
    refuse_escape(name, str(where))
    return name


def _read_modes(path: Path) -> tuple[tuple[str, ...], bool]:
    """The modes of a pooling and whether it pools the prompt's tokens too."""
    config = read_json(path)
    named = config.get("pooling_mode")
    if named is None:
        named = [name for flag, name in _FLAGS.items() if config.get(flag)] or "mean"
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name in _MODES for name in names):
        raise UnsupportedError(
            f"the pooling mode {named!r:.80} is not supported.",
            where=str(path),
            hint=f"Known: {', '.join(_MODES)}, or a list of these.",
        )
    return tuple(_MODES[name] for name in names), config.get("include_prompt") is not False


def _read_options(path: Path) -> tuple[dict[str, str], str | None, int | None]:
    """The prompts by name, the name of the default one, and how many numbers of a vector are kept."""
    if not path.is_file():
        return {}, None, None
    config = read_json(path)
    prompts, default = config.get("prompts") or {}, config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(text is None or isinstance(text, str) for text in prompts.values()):
        raise CheckpointError("must be an object that maps names to texts.", where=f"{path}: prompts")
    if default is not None and (not isinstance(default, str) or default not in (*prompts, *_NAMED_PROMPTS)):
        raise CheckpointError(f"there is no prompt {default!r:.80}.", where=f"{path}: default_prompt_name")
    kept = _positive(config.get("truncate_dim"), f"{path}: truncate_dim")
    return {name: text or "" for name, text in prompts.items()}, default if prompts.get(default) else None, kept


def _text_settings(folder: Path) -> tuple[dict[str, Any], Path]:
    """What becomes of a text before the network, and the file that says so."""
    older = sorted(folder.glob("sentence_*_config.json"))  # before its one name it had that of the network's family
    path = next((path for path in (folder / _TEXTS, *older) if path.is_file()), folder / _TEXTS)
    return (read_json(path) if path.is_file() else {}), path


def _read_max_tokens(settings: tuple[Mapping[str, Any], Path]) -> int | None:
    """To how many tokens longer texts are cut.

    Raises:
        UnsupportedError: something else becomes of a text, which is not supported.
    """
    config, path = settings
    length = config.get("max_seq_length")
    for name in _TOKENIZER_SETTINGS:
        values = config.get(name) or {}
        if not isinstance(values, Mapping):
            raise CheckpointError("must be a JSON object.", where=f"{path}: {name}")
        length = values.get("model_max_length", length)
        if others := sorted(key for key in values if key not in ("model_max_length", *_WITHOUT_EFFECT)):
            raise UnsupportedError(f"{name} sets '{others[0]}', which is not supported.", where=str(path))
    kinds = config.get("modality_config") or {}
    read = kinds.get("text", _WHOLE_TEXT) if isinstance(kinds, Mapping) else kinds
    for key, value, usual in (
        ("transformer_task", config.get("transformer_task") or "feature-extraction", "feature-extraction"),
        ("modality_config", read, _WHOLE_TEXT),
        ("module_output_name", config.get("module_output_name") or "token_embeddings", "token_embeddings"),
        ("processing_kwargs", config.get("processing_kwargs") or {}, {}),
    ):
        if value != usual:
            raise UnsupportedError(f"'{key}' is {value!r:.80}; only {usual!r} is supported.", where=str(path))
    return _positive(length, f"{path}: max_seq_length")


def _positive(value: Any, where: str) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise CheckpointError(f"must be a positive whole number, not {value!r:.80}.", where=where)
    return value
