"""One vector for each text, pooled from its hidden states (Reimers and Gurevych 2019, arXiv 1908.10084)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from germinal.checkpoints.sentence_vectors import Pooling
from germinal.errors import GerminalWarning, SettingError, nearest
from germinal.progress import Reporter, silent
from germinal.reading.reader import Batch, Reader, Text

Vectors = NDArray[np.float32]


def encode(
    reader: Reader,
    texts: Sequence[Text],
    pooling: str | None = None,
    normalize: bool | None = None,
    reporter: Reporter = silent,
    prompt: str | None = None,
) -> Vectors:
    """One vector for each text, float32 [N, D], in the order of the texts.

    A text is cut where the checkpoint says so (sentence-transformers' `max_seq_length`, else the tokenizer's
    `model_max_length` if that is below the context window), and a `GerminalWarning` tells how many were.

    Args:
        pooling: "mean", "weightedmean", "mean_sqrt_len", "max", "first", "last" or "pooler"; None takes the
            checkpoint's own, or "mean" if it has none.
        normalize: Whether each vector is scaled to length 1; None takes the checkpoint's own choice, or does not.
        reporter: Told of every batch, in texts.
        prompt: The name of one of the checkpoint's prompts ("query"), which is put before each text; None takes the
            checkpoint's default, "" puts nothing there.

    Raises:
        SettingError: there is no such pooling or prompt.
        UnsupportedError: the model has no pooler.
        ContextWindowError: a text has more tokens than the model reads, and the checkpoint does not say to cut it.
    """
    chosen = _chosen(reader, pooling, normalize)
    prefix = _prompt(reader, chosen, prompt)
    limit = _most_tokens(reader, chosen)
    encodings = reader.tokenize(_after(texts, prefix), cut_to=limit)
    if cut := sum(bool(encoding.overflowing) for encoding in encodings):
        what = f"{cut:,} of {len(texts):,} texts were cut to {limit:,} tokens, as {reader.name} says."
        warnings.warn(what, GerminalWarning, stacklevel=3)
    skipped = 0 if chosen.include_prompt or not prefix else _prompt_tokens(reader, prefix)
    vectors = np.empty((len(texts), chosen.width(reader.config.hidden_size)), dtype=np.float32)
    for batch in reader.batches(encodings, reporter):
        vectors[list(batch.numbers)] = _pooled(reader, batch, chosen, skipped, bool(normalize)).cpu().numpy()
    return vectors


def _chosen(reader: Reader, mode: str | None, normalize: bool | None) -> Pooling:
    """The checkpoint's pooling with what the caller wants otherwise."""
    chosen = reader.head_config.pooling or Pooling()
    if mode is not None:
        if mode not in (*_POOLINGS, _POOLER):
            raise SettingError(f"'{mode}' is unknown.", where="pooling", hint=nearest(mode, [*_POOLINGS, _POOLER]))
        chosen = replace(chosen, modes=(mode,))
    if _POOLER in chosen.modes:
        reader.require_head("pool with a pooler", _POOLER)
    if normalize is False and chosen.normalized:
        chosen = replace(chosen, layers=chosen.layers[:-1])
    return chosen


def _pooled(reader: Reader, batch: Batch, pooling: Pooling, skipped: int, normalize: bool) -> Tensor:
    """The vectors of a batch, [B, D]."""
    mask = batch.attention_mask.clone()
    mask[:, :skipped] = 0
    hidden_states = batch.hidden_states.float()
    if _POOLER in pooling.modes:
        assert reader.network.head is not None
        vectors = reader.network.head(batch.hidden_states).float()
    else:
        vectors = torch.cat([_POOLINGS[mode](hidden_states, mask) for mode in pooling.modes], dim=-1)
    for layer in pooling.layers:
        vectors = layer(vectors)
    kept = vectors[:, : pooling.truncate_dim]
    has_length_1 = pooling.normalized and kept.shape == vectors.shape
    return F.normalize(kept, dim=-1) if normalize and not has_length_1 else kept


def _most_tokens(reader: Reader, pooling: Pooling) -> int | None:
    """To how many tokens longer texts are cut; None cuts none."""
    if pooling.max_tokens is not None:
        return min(pooling.max_tokens, reader.limit)
    length = reader.tokenizer.max_length
    return length if length is not None and length < reader.limit else None


def _prompt(reader: Reader, pooling: Pooling, name: str | None) -> str:
    """The text that is put before every text."""
    name = pooling.default_prompt if name is None else name
    if not name:
        return ""
    if name not in pooling.prompts:
        known = list(pooling.prompts)
        hint = nearest(name, known) if known else "Write the prompt into the texts themselves."
        raise SettingError(f"{reader.name} has no prompt '{name}'.", where="prompt", hint=hint)
    return pooling.prompts[name]


def _prompt_tokens(reader: Reader, prompt: str) -> int:
    """How many tokens of a text are its prompt's, counted as sentence-transformers counts them: those of the prompt by
    itself, without a special token at its end.
    """
    ids = reader.tokenizer.encode(prompt)
    return len(ids) - (ids[-1] in reader.tokenizer.special_ids)


def _after(texts: Sequence[Text], prompt: str) -> Sequence[Text]:
    if not prompt:
        return texts
    return [(prompt + text[0], text[1]) if isinstance(text, tuple) else prompt + text for text in texts]


def similarities(vectors: Vectors) -> Vectors:
    """Cosine of the angle between each two vectors, [N, D] -> [N, N], from -1 to 1."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    cosines: Vectors = np.clip(directions @ directions.T, -1.0, 1.0).astype(np.float32)
    return cosines


def _sum(hidden_states: Tensor, weights: Tensor) -> Tensor:
    """The sum of the states [B, T, D] by their weights [B, T]."""
    return (weights.float()[:, None] @ hidden_states).squeeze(1)


def _mean(hidden_states: Tensor, mask: Tensor) -> Tensor:
    return _sum(hidden_states, mask) / _count(mask)


def _mean_sqrt_len(hidden_states: Tensor, mask: Tensor) -> Tensor:
    return _sum(hidden_states, mask) / _count(mask).sqrt()


def _weighted_mean(hidden_states: Tensor, mask: Tensor) -> Tensor:
    """Token t of a text has the weight t (Muennighoff 2022, arXiv 2202.08904, equation 1)."""
    return _mean(hidden_states, mask * torch.arange(1, mask.shape[1] + 1, device=mask.device))


def _count(weights: Tensor) -> Tensor:
    """Their sum, [B, 1]; tiny where a text has no token that counts."""
    return weights.float().sum(1, keepdim=True).clamp(min=1e-9)


def _first(hidden_states: Tensor, mask: Tensor) -> Tensor:
    return _at(hidden_states, mask.argmax(1))


def _last(hidden_states: Tensor, mask: Tensor) -> Tensor:
    last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
    return _at(hidden_states, last) * mask.any(1, keepdim=True)


def _at(hidden_states: Tensor, places: Tensor) -> Tensor:
    return hidden_states[torch.arange(len(places), device=places.device), places]


def _max(hidden_states: Tensor, mask: Tensor) -> Tensor:
    return hidden_states.masked_fill(mask[:, :, None] == 0, -torch.inf).amax(1)


_POOLER = "pooler"
_POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": _mean,
    "weightedmean": _weighted_mean,
    "mean_sqrt_len": _mean_sqrt_len,
    "max": _max,
    "first": _first,
    "last": _last,
}
"""Hidden states [B, T, D] and the mask [B, T] of the tokens that count -> vectors [B, D]."""
