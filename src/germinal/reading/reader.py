"""Texts go through a network in batches of nearly equal length, so that little is padding; results are unpadded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import tokenizers
import torch
from torch import Tensor

from germinal.checkpoints.decoder_start import decoder_start_id
from germinal.checkpoints.head_config import HeadConfig
from germinal.errors import CheckpointError, ContextWindowError, SettingError, UnsupportedError
from germinal.layers.attention import PaddedView
from germinal.layers.linear import packed_weights
from germinal.models.config import TransformerConfig
from germinal.models.heads import require_head
from germinal.models.transformer import Transformer
from germinal.progress import Progress, Reporter, silent
from germinal.text.tokenizer import Tokenizer

Text = str | tuple[str, str]
"""A text, or two that belong together (a question and a passage, a premise and a hypothesis)."""

BATCH_TOKENS = 1024
"""Most tokens of a batch, padding included."""

ENOUGH_TOKENS = 256
"""A batch of this size keeps two cores busy. It ends where the texts get shorter, so that most need no padding."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts that went through the network together.

    Attributes:
        numbers: Their places among all texts.
        input_ids: [B, T], padded on the right.
        hidden_states: [B, T, D], padded on the right.
        attention_mask: [B, T], 1 where a token is real.
    """

    numbers: tuple[int, ...]
    input_ids: Tensor
    hidden_states: Tensor
    attention_mask: Tensor


class Reader:
    """A network and its tokenizer, for reading.

    Args:
        network: The Transformer.
        tokenizer: Its tokenizer.
        head_config: How its outputs are read.
        hf_generation_config: The checkpoint's generation_config.json as published.
        name: What to call the model in errors.
    """

    def __init__(
        self,
        network: Transformer,
        tokenizer: Tokenizer,
        head_config: HeadConfig,
        hf_generation_config: Mapping[str, Any],
        name: str,
    ) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.head_config = head_config
        self.hf_generation_config = hf_generation_config
        self.name = name

    @property
    def config(self) -> TransformerConfig:
        return self.network.config

    def require_head(self, purpose: str, *heads: str) -> None:
        """Refuse what the model has no head for.

        Raises:
            UnsupportedError: names the model, its head and the heads that could.
        """
        require_head(self.config, self.name, purpose, *heads)

    @property
    def decoder_start_id(self) -> int:
        """The token that the decoder of an encoder-decoder starts with.

        Raises:
            CheckpointError: the checkpoint names none.
        """
        return decoder_start_id(self.hf_generation_config, self.name)

    def tokenize(
        self, texts: Sequence[Text], *, cut_to: int | None = None, add_special_tokens: bool = True
    ) -> list[tokenizers.Encoding]:
        """The encoding of each text: token ids, segments, offsets, words.

        Args:
            texts: Texts, or pairs of texts.
            cut_to: Longer texts lose what is beyond so many tokens, which their `overflowing` then holds; None cuts
                none.
            add_special_tokens: Whether the tokenizer adds its special tokens; a chat template writes them itself.

        Raises:
            ContextWindowError: a text has more tokens than the model reads.
            SettingError: a text is empty, or not a text.
        """
        for number, text in enumerate(texts):
            if not isinstance(text, str) and not (isinstance(text, tuple) and len(text) == 2):
                raise SettingError(f"is not a text: {text!r:.80}.", where=f"text {number + 1} of {len(texts)}")
        encodings = self.tokenizer.encodings(texts, add_special_tokens, cut_to)
        for number, encoding in enumerate(encodings):
            if len(encoding.ids) > self.limit:
                raise ContextWindowError(
                    f"has {len(encoding.ids):,} tokens, and {self.name} reads {self.limit:,}.",
                    where=f"text {number + 1} of {len(texts)}",
                    hint="Cut it into parts.",
                )
            if not encoding.ids:
                raise SettingError("has no tokens.", where=f"text {number + 1} of {len(texts)}")
        return encodings

    @property
    def limit(self) -> int:
        """Most tokens of a text, special tokens included."""
        return self.config.max_position_embeddings

    @torch.inference_mode()
    def batches(
        self, encodings: Sequence[tokenizers.Encoding], reporter: Reporter = silent, *, for_head: bool = False
    ) -> Iterator[Batch]:
        """Hidden states of all texts. The longest come first: if a batch does not fit in memory, it is the first one.

        Args:
            encodings: From `tokenize`.
            reporter: Told of every batch, in texts.
            for_head: Give the states that the head works on. Those of an encoder-decoder are its decoder's, which reads
                the text a second time.

        Raises:
            CheckpointError: a hidden state is not finite; or as of `read_again`.
        """
        order = sorted(range(len(encodings)), key=lambda number: -len(encodings[number].ids))
        lengths = [len(encodings[number].ids) for number in order]
        with packed_weights(self.network) if sum(lengths) > BATCH_TOKENS else nullcontext():
            for part in _parts(lengths):
                numbers = tuple(order[part])
                yield self._batch(numbers, [encodings[number] for number in numbers], lengths[part.start], for_head)
                reporter(Progress("read", part.stop, len(order), "texts"))

    def _batch(
        self, numbers: tuple[int, ...], encodings: Sequence[tokenizers.Encoding], width: int, for_head: bool
    ) -> Batch:
        shape, device = (len(numbers), width), self.network.device
        pad = self.tokenizer.filler_id
        input_ids = torch.full(shape, pad, dtype=torch.long)
        token_types = torch.zeros(shape, dtype=torch.long)
        attention_mask = torch.zeros(shape, dtype=torch.long)
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            input_ids[row, :length] = torch.tensor(encoding.ids)
            attention_mask[row, :length] = 1
            if self.config.num_token_types > 1 and self.tokenizer.has_token_types:
                token_types[row, :length] = torch.tensor(encoding.type_ids)
        input_ids, token_types, attention_mask = (each.to(device) for each in (input_ids, token_types, attention_mask))
        hidden_states = self._hidden_states(input_ids, token_types, attention_mask, for_head)
        if not bool((hidden_states.isfinite().all(-1) | (attention_mask == 0)).all()):
            raise CheckpointError(
                "the model's hidden states are not finite numbers.",
                where=self.name,
                hint="Its weights are damaged, or overflow in this precision: try precision float32.",
            )
        return Batch(numbers, input_ids, hidden_states, attention_mask)

    def _hidden_states(self, input_ids: Tensor, token_types: Tensor, attention_mask: Tensor, for_head: bool) -> Tensor:
        """[B, T] -> [B, T, D]; the encoder's states of an encoder-decoder, unless they are for the head."""
        if self.config.stacks == "encoder-decoder" and not for_head:
            view = PaddedView(input_ids, attention_mask, causal=False)
            return self.network.encode(input_ids, view)
        types = token_types if self.config.num_token_types else None
        hidden_states: Tensor = self.network(
            input_ids, attention_mask, token_type_ids=types, decoder_input_ids=self.read_again(input_ids)
        )
        return hidden_states

    def read_again(self, input_ids: Tensor) -> Tensor | None:
        """What the decoder of an encoder-decoder reads for the head, [B, T]: its start token, then the text.

        None for a model with one stack.

        Raises:
            CheckpointError: the checkpoint names no start token.
        """
        if self.config.stacks != "encoder-decoder":
            return None
        if self.head_config.start_id is None:
            raise CheckpointError("names no decoder_start_token_id.", where=f"{self.name}: config.json")
        return torch.cat((torch.full_like(input_ids[:, :1], self.head_config.start_id), input_ids[:, :-1]), 1)

    def looked_at(self, batch: Batch) -> Tensor:
        """A mask [B, T] for the head, which looks at the first token, or at the last one that is not masked.

        As in the published models, a decoder recognises padding by its id, and an encoder-decoder looks at the token
        that ends the text.

        Raises:
            UnsupportedError: the tokenizer does not end texts with that token.
        """
        if self.config.pooled_token == "last" and self.config.stacks == "encoder-decoder":
            ends = batch.input_ids == (-1 if self.tokenizer.eos_id is None else self.tokenizer.eos_id)
            if not bool(ends.any(1).all()):
                raise UnsupportedError(
                    "the head looks at the token that ends a text, and the tokenizer adds none.", where=self.name
                )
            return ends
        if self.head_config.padding_id is None:
            return batch.attention_mask
        return batch.attention_mask * (batch.input_ids != self.head_config.padding_id)


def _parts(lengths: Sequence[int]) -> Iterator[slice]:
    """The batches of texts whose lengths fall, as slices."""
    done = 0
    while done < len(lengths):
        width = lengths[done]
        count = max(1, min(BATCH_TOKENS // width, len(lengths) - done))
        same = lengths[done : done + count].count(width)
        count = same if same * width >= ENOUGH_TOKENS else count
        yield slice(done, done + count)
        done += count
