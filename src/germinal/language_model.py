"""A language model as its user meets it: network, tokenizer, chat template and generation defaults, kept together.

Text becomes token ids here, and token ids text; everything between is the engine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast, overload

import torch
from torch import Tensor

from germinal.checkpoints import lora_folder
from germinal.checkpoints.cards import ModelCard
from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.fingerprint import fingerprint
from germinal.checkpoints.head_config import HeadConfig
from germinal.checkpoints.hf_folder import write_folder
from germinal.errors import CheckpointError, ContextWindowError, SettingError
from germinal.generation.backends.factory import make_backend
from germinal.generation.config import GenerationConfig
from germinal.generation.distribution import NextTokenDistribution, next_token_distribution
from germinal.generation.engine import Engine
from germinal.generation.request import Pending, Request, Response, TextStream
from germinal.generation.sequence import Sequence
from germinal.layers.linear import adapter_routing, base_state_dict
from germinal.layers.masks import document_starts, longest_document
from germinal.models.config import TransformerConfig
from germinal.models.families import Family
from germinal.models.heads import VOCABULARY_HEADS
from germinal.models.inspection import AttentionMaps, trace
from germinal.models.transformer import Transformer
from germinal.objectives.language_modelling import IGNORED, causal_lm_loss, labelled_cross_entropy, labelled_tokens
from germinal.progress import Progress, Reporter, silent
from germinal.reading import classes, masks, vectors
from germinal.reading.reader import Reader, Text
from germinal.reading.vectors import Vectors
from germinal.text.chat_template import ChatTemplate, Message
from germinal.text.tokenizer import Tokenizer

Content = str | SequenceOf[Message] | SequenceOf[Mapping[str, Any]]
"""A prompt: plain text, or the messages of a chat."""

Ids = Tensor | SequenceOf[SequenceOf[int]]
"""Token ids, or a mask over them, [B, T]."""


class LanguageModel:
    """A network with all that belongs to it; made by `germinal.load`.

    Attributes:
        network: The Transformer.
        tokenizer: Its tokenizer.
        family: The family that its config and weight names follow.
        generation_defaults: The checkpoint's own settings, under those that a call gives.
        card: Name, licence, source.
        head_config: The names of its classes, and how its vectors are pooled.
        precision: As asked for, with how the file stores the weights where that differs: "float32 (from Q4_1)".
        reference: What `load` finds the model by again; None when it was not loaded by one.
        adapter: Name of the adapter that all calls go through, or None.
        two_stacks: Whether it is an encoder-decoder: the encoder reads the prompt, the decoder writes the answer.
    """

    def __init__(self, network: Transformer, checkpoint: Checkpoint, reference: str | None = None) -> None:
        dtype = str(network.dtype).removeprefix("torch.")
        stored = checkpoint.card.stored_precision
        self.network = network
        self.tokenizer: Tokenizer = checkpoint.tokenizer
        self.family: Family = checkpoint.family
        self.card: ModelCard = checkpoint.card
        self.head_config: HeadConfig = checkpoint.head_config
        self.precision = dtype if stored in (None, dtype) else f"{dtype} (from {stored})"
        self.reference = reference
        self.adapter: str | None = None
        self.hf_generation_config = checkpoint.generation_config
        self.two_stacks = self.config.stacks == "encoder-decoder"
        self.generation_defaults = GenerationConfig.from_hf(
            checkpoint.generation_config, encoder_decoder=self.two_stacks
        )
        if self.generation_defaults.eos_ids is None and self.tokenizer.eos_id is not None:
            self.generation_defaults = self.generation_defaults.override(eos_ids=self.tokenizer.eos_id)
        self._checkpoint_path = checkpoint.path

    @property
    def config(self) -> TransformerConfig:
        return self.network.config

    @property
    def chat_template(self) -> ChatTemplate:
        return self.tokenizer.template

    @cached_property
    def engine(self) -> Engine:
        """The engine that all calls share; it belongs to the thread that uses the model.

        Raises:
            UnsupportedError: the model does not write texts.
        """
        self.reader.require_head("generate or score texts", "lm")
        return Engine(make_backend(self.network))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the weights by content, of the config and the tokenizer: where they came from does not matter."""
        return fingerprint(base_state_dict(self.network), self.tokenizer, self._checkpoint_path, self.config)

    # Text in, text out

    def generate(self, prompt: Content | SequenceOf[Content], **settings: Any) -> Any:
        """Answer a prompt, or many at once.

        Args:
            prompt: Text, the messages of a chat, or a list of either.
            settings: `GenerationConfig`'s, over the checkpoint's own.

        Returns:
            A `Completion`; with `n` above 1 a list of n; for a list of prompts a list of what one would give.

        Raises:
            SettingError: a setting is unknown, out of range or without effect.
            ContextWindowError: a prompt does not fit the context window.
            TemplateError: messages were given and the model has no chat template.
        """
        config = self._settings(settings)
        several = isinstance(prompt, list | tuple) and not _is_chat(prompt)
        prompts = cast("list[Content]", list(prompt) if several else [prompt])
        answers = [self._answers(self.encode_prompt(each), config) for each in prompts]
        for _ in self._run(
            [stream for streams in answers for stream in streams], [each[0].sequence for each in answers]
        ):
            pass
        completions = [[stream.completion() for stream in streams] for streams in answers]
        shaped = completions if config.n > 1 else [each[0] for each in completions]
        return shaped if several else shaped[0]

    def stream(self, prompt: Content, **settings: Any) -> Iterator[str]:
        """Answer one prompt, piece by piece; the pieces together are the text that `generate` gives.

        Arguments and errors are those of `generate`; `n` above 1 cannot be streamed.
        """
        config = self._settings(settings)
        if config.n > 1:
            raise SettingError("several answers cannot be streamed as one text.", where="n", hint="Use generate.")
        (stream,) = self._answers(self.encode_prompt(prompt), config)
        shown = 0
        for _ in self._run([stream], [stream.sequence]):
            if len(stream.text) > shown:
                yield stream.text[shown:]
                shown = len(stream.text)

    def score(self, prompt: Content, continuations: SequenceOf[str]) -> list[float]:
        """Log-probability of each continuation given the prompt, in nats; the prompt is computed once."""
        plain = isinstance(prompt, str)
        text = prompt if isinstance(prompt, str) else self.chat_template.render(prompt)
        pairs = [self.tokenizer.encode_continuation(text, each, plain, apart=self.two_stacks) for each in continuations]
        requests = [
            Request(tuple(context), continuations=(tuple(continuation),), adapter=self.adapter)
            for context, continuation in pairs
        ]
        scores = {index: response.scores[0] for index, response in self.respond(requests)}
        return [scores[index] for index in range(len(requests))]

    def encode_prompt(self, prompt: Content) -> tuple[int, ...]:
        """Token ids of a prompt: text with the tokenizer's own special tokens, messages through the chat template."""
        if isinstance(prompt, str):
            return tuple(self.tokenizer.encode(prompt))
        text = self.chat_template.render(prompt)
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    @property
    def decoder_start_id(self) -> int:
        """The token that the decoder of an encoder-decoder starts with.

        Raises:
            CheckpointError: the checkpoint names none.
        """
        for name in ("decoder_start_token_id", "bos_token_id"):
            if isinstance(found := self.hf_generation_config.get(name), int):
                return found
        raise CheckpointError(
            "names no token that the decoder starts with.",
            where=f"{self.card.name}: generation_config.json",
            hint="Add decoder_start_token_id.",
        )

    @property
    def opening(self) -> tuple[int, ...]:
        """What every answer begins with, where the checkpoint forces it."""
        forced = self.generation_defaults.forced_bos_id
        return () if forced is None else (forced,)

    @property
    def answer_start(self) -> tuple[int, ...] | None:
        """What the decoder of an encoder-decoder reads before an answer; None where the answer follows the prompt."""
        return (self.decoder_start_id, *self.opening) if self.two_stacks else None

    def sequence(
        self,
        prompt_ids: Iterable[int],
        config: GenerationConfig | None = None,
        *,
        target_ids: Iterable[int] | None = None,
        adapter: str | None = None,
        index: int = 0,
        forks: Iterable[Sequence] = (),
    ) -> Sequence:
        """A sequence for the engine, as `Sequence`; of an encoder-decoder the prompt is what the encoder reads."""
        start, encoder_input_ids = prompt_ids, None
        if self.two_stacks:
            start, encoder_input_ids = (self.decoder_start_id,), prompt_ids
        return Sequence(
            start,
            config,
            target_ids=target_ids,
            adapter=adapter,
            index=index,
            forks=forks,
            encoder_input_ids=encoder_input_ids,
        )

    def respond(
        self, requests: Iterable[Request], reporter: Reporter = silent, task: str = "answer"
    ) -> Iterator[tuple[int, Response]]:
        """Answer many requests at once: what evaluation runs on.

        Yields:
            Each request's number and its response, as they finish. Stopping early cancels the rest.

        Raises:
            ContextWindowError: a prompt does not fit; `ContextWindow` is what makes prompts fit.
        """
        waiting = {number: self.pending(request) for number, request in enumerate(requests)}
        total = len(waiting)
        streams = [each.stream for each in waiting.values() if each.stream is not None]
        for _ in self._run(streams, [each.lead for each in waiting.values()]):
            done = [number for number, each in waiting.items() if each.finished]
            for number in done:
                response = waiting.pop(number).response()
                reporter(Progress(task, total - len(waiting), total, "examples"))
                yield number, response

    def pending(self, request: Request) -> Pending:
        """A request as sequences for the engine: `respond` runs them, and a server among those of others.

        Raises:
            SettingError: the request asks for nothing.
        """
        ids, adapter = request.prompt_ids, request.adapter
        targets = [(*self.opening, *continuation) for continuation in request.continuations]
        if request.generation is not None:
            scored = [self.sequence(ids, target_ids=target, adapter=adapter) for target in targets]
            config = self.with_forced_tokens(request.generation)
            lead = self.sequence(ids, config, adapter=adapter, forks=scored)
            return Pending(lead, TextStream(lead, self.tokenizer), tuple(scored), len(self.opening))
        if not targets:
            raise SettingError("asks for nothing.", where="request", hint="Give generation or continuations.")
        forks = [self.sequence(ids, target_ids=target, adapter=adapter) for target in targets[1:]]
        lead = self.sequence(ids, target_ids=targets[0], adapter=adapter, forks=forks)
        return Pending(lead, None, (lead, *forks), len(self.opening))

    # Texts read, nothing generated

    @cached_property
    def reader(self) -> Reader:
        """What `encode`, `classify`, `answer` and `fill_mask` go through."""
        return Reader(self.network, self.tokenizer, self.head_config, self.card.name)

    def encode(
        self,
        texts: Text | Iterable[Text],
        pooling: str | None = None,
        normalize: bool | None = None,
        reporter: Reporter = silent,
        prompt: str | None = None,
    ) -> Vectors:
        """One vector a text, float32 [N, D]; arguments and errors are those of `reading.vectors.encode`."""
        with self._adapted():
            return vectors.encode(self.reader, _texts(texts), pooling, normalize, reporter, prompt)

    def classify(self, texts: Text | Iterable[Text], reporter: Reporter = silent) -> Any:
        """The class of each text, or of each of its words, by the model's own head.

        Args:
            texts: A text, a pair of texts (a tuple), or a list of either.

        Returns:
            A `Classification`, or a `TokenClassification` where the head is one for tokens; a list for a list.

        Raises:
            UnsupportedError: the model has no head that classifies.
            ContextWindowError: a text has more tokens than the model reads.
        """
        with self._adapted():
            found = classes.classify(self.reader, _texts(texts), reporter)
        return found[0] if isinstance(texts, str | tuple) else found

    def reward(self, answers: Content | tuple[str, str] | SequenceOf[Content], reporter: Reporter = silent) -> Any:
        """How good an answer is to a reward model, or each of several: the higher, the better.

        Args:
            answers: The messages of a chat, the last of them the answer; a text as the model was trained on; or a list.

        Returns:
            A float; a list for a list. Errors are those of `reading.classes.rewards`.
        """
        several = isinstance(answers, list) and not _is_chat(answers)
        with self._adapted():
            found = classes.rewards(self.reader, cast("list[Any]", answers if several else [answers]), reporter)
        return found if several else found[0]

    def answer(self, question: str, context: str) -> classes.Answer:
        """The part of a passage that answers a question; errors are those of `reading.classes.answer`."""
        with self._adapted():
            return classes.answer(self.reader, question, context)

    def fill_mask(self, text: str, top_k: int = 5) -> list[list[masks.Filling]]:
        """The likeliest words for each mask of a text; errors are those of `reading.masks.fill_mask`."""
        with self._adapted():
            return masks.fill_mask(self.reader, text, top_k)

    # A look inside; `germinal.inspection` makes pictures of it

    def attention_maps(self, text: Content, target: str | None = None) -> AttentionMaps:
        """Who looks at whom in each layer and head, while the model reads a text.

        Args:
            text: What it reads.
            target: Of an encoder-decoder, what it has written so far; nothing when not given.

        Raises:
            SettingError: a target was given to a model with one stack.
            ContextWindowError: there are more tokens than positions.
        """
        with self._adapted():
            return trace(self.network, self.encode_prompt(text), self._written(target)).attention

    @torch.inference_mode()
    def next_token_distribution(
        self, text: Content, target: str | None = None, **settings: Any
    ) -> NextTokenDistribution:
        """How the token after a text is chosen: the model's own distribution, and what each setting makes of it.

        Arguments and errors are those of `attention_maps` and, for `settings`, of `generate`.
        """
        self.reader.require_head("say what comes next", "lm")
        config = self._settings(settings)
        ids, written = self.encode_prompt(text), self._written(target)
        with self._adapted():
            hidden_states = trace(self.network, ids, written, attention=False).hidden_states
        logits = self.network.logits(hidden_states[-1].to(self.network.device, self.network.dtype)).float().cpu()
        start, answer = (ids, ()) if written is None else (written[:1], written[1:])
        return next_token_distribution(logits, config, start, answer)

    def _written(self, target: str | None) -> tuple[int, ...] | None:
        """Start token and target, of an encoder-decoder."""
        if not self.two_stacks:
            if target is not None:
                raise SettingError("the model has one stack, and writes nothing beside the text.", where="target")
            return None
        ids = [] if target is None else self.tokenizer.encode(target, add_special_tokens=False)
        return (self.decoder_start_id, *ids)

    def _adapted(self) -> AbstractContextManager[None]:
        return adapter_routing(self.network).using(self.adapter)

    # Tensors in, tensors out

    @torch.inference_mode()
    def logits(
        self,
        input_ids: Ids,
        attention_mask: Ids | None = None,
        decoder_input_ids: Ids | None = None,
        *,
        prefix_mask: Ids | None = None,
        document_ids: Ids | None = None,
        decoder_document_ids: Ids | None = None,
    ) -> Tensor:
        """Logits [B, T, V], float32, of token ids [B, T].

        Args:
            input_ids: [B, T]; of an encoder-decoder the source [B, S].
            attention_mask: The same shape, nonzero where a token is real.
            decoder_input_ids: [B, T], of an encoder-decoder.
            prefix_mask: [B, T], nonzero in the prefix of a row of a decoder: its tokens see each other.
            document_ids: As `input_ids`, equal where tokens are of one document of several that are packed into a row.
            decoder_document_ids: As `decoder_input_ids`, the numbers of the sources that they belong to.

        Raises:
            UnsupportedError: the model's head is not over the vocabulary.
            SettingError: `decoder_input_ids` is missing, or something was given that the model has no use for.
            ContextWindowError: there are more tokens than the model has positions for.
        """
        self.reader.require_head("give the logits of its vocabulary", *VOCABULARY_HEADS)
        hidden_states = self._hidden_states(
            self._tensor(input_ids),
            self._tensor(attention_mask),
            self._tensor(decoder_input_ids),
            prefix_mask=self._tensor(prefix_mask),
            document_ids=self._tensor(document_ids),
            decoder_document_ids=self._tensor(decoder_document_ids),
        )
        return self.network.logits(hidden_states).float()

    @torch.inference_mode()
    def loss(
        self,
        input_ids: Ids,
        attention_mask: Ids | None = None,
        labels: Ids | None = None,
        decoder_input_ids: Ids | None = None,
        *,
        prefix_mask: Ids | None = None,
        document_ids: Ids | None = None,
        decoder_document_ids: Ids | None = None,
    ) -> Tensor:
        """Mean cross-entropy of the labelled tokens.

        A decoder predicts each from what stands before it. An encoder-decoder predicts `labels[:, t]` after
        `decoder_input_ids[:, : t + 1]`, which are the labels moved one place to the right behind the token that its
        decoder starts with when they are not given. A masked language model predicts each at its own place. Where
        documents are packed, one after the other, nothing is predicted across their borders.

        Args:
            input_ids: [B, T]; of an encoder-decoder the source [B, S].
            attention_mask: The same shape, nonzero where a token is real.
            labels: [B, T], -100 where a token has no part in the loss; of a decoder every real token outside of a
                prefix when not given.
            decoder_input_ids: [B, T], of an encoder-decoder.
            prefix_mask, document_ids, decoder_document_ids: As of `logits`.

        Returns:
            A float32 scalar in [0, inf).

        Raises:
            UnsupportedError, SettingError, ContextWindowError: as of `logits`; `labels` are missing.
        """
        self.reader.require_head("give the loss of its vocabulary", *VOCABULARY_HEADS)
        ids, mask, targets = self._tensor(input_ids), self._tensor(attention_mask), self._tensor(labels)
        prefix, documents = self._tensor(prefix_mask), self._tensor(document_ids)
        written, of_written = self._tensor(decoder_input_ids), self._tensor(decoder_document_ids)
        if targets is None and self.config.stacks != "decoder":
            raise SettingError("are needed by a model with an encoder.", where="labels")
        if targets is not None and self.two_stacks and written is None:
            written = self._moved_right(targets, of_written)
        hidden_states = self._hidden_states(
            ids, mask, written, prefix_mask=prefix, document_ids=documents, decoder_document_ids=of_written
        )
        if self.config.stacks == "decoder":
            targets = _outside_prefixes(ids, mask, prefix) if targets is None else targets
            if documents is not None:
                targets = targets.masked_fill(document_starts(documents), IGNORED)
            return causal_lm_loss(hidden_states, targets, self.network.logits) / max(1, labelled_tokens(targets))
        assert targets is not None
        summed = labelled_cross_entropy(hidden_states, targets, self.network.logits)
        return summed / max(1, int((targets != IGNORED).sum()))

    def _moved_right(self, labels: Tensor, document_ids: Tensor | None) -> Tensor:
        """What a decoder reads to write labels [B, T]: the token it starts with, then all labels but the last."""
        padding = self.hf_generation_config.get("pad_token_id")
        if padding is None:
            padding = self.decoder_start_id if self.tokenizer.pad_id is None else self.tokenizer.pad_id
        moved = labels.roll(1, -1)
        moved = moved.masked_fill(moved == IGNORED, padding)
        moved[:, :1] = self.decoder_start_id
        if document_ids is None or document_ids.shape != labels.shape:  # which the network refuses
            return moved
        return moved.masked_fill(document_starts(document_ids), self.decoder_start_id)

    @overload
    def _tensor(self, values: Ids) -> Tensor: ...

    @overload
    def _tensor(self, values: Ids | None) -> Tensor | None: ...

    def _tensor(self, values: Ids | None) -> Tensor | None:
        return None if values is None else torch.as_tensor(values, device=self.network.device)

    def _hidden_states(
        self, ids: Tensor, mask: Tensor | None, decoder_ids: Tensor | None, **masks: Tensor | None
    ) -> Tensor:
        for name, each in (("input_ids", ids), ("decoder_input_ids", decoder_ids)):
            if each is None:
                continue
            if each.dim() != 2:
                raise SettingError(f"must have two dimensions [B, T], not {each.dim()}.", where=name)
            known, length = self.config.max_position_embeddings, each.shape[1]
            documents = masks.get(name.replace("input", "document"))
            if length > known and documents is not None and documents.shape == each.shape:
                length = longest_document(documents)
            if self.config.positions == "learned" and length > known:
                raise ContextWindowError(f"has {length:,} tokens, and the model positions for {known:,}.", where=name)
        with self._adapted():
            return cast("Tensor", self.network(ids, mask, decoder_input_ids=decoder_ids, **masks))

    # Folders

    def save(self, path: str | Path, precision: str | None = None, without_head: bool = False) -> Path:
        """Write a Hugging Face folder that transformers and vLLM read, or a .gguf file that llama.cpp reads.

        Args:
            path: The folder, or a file whose name ends in .gguf.
            precision: Of a .gguf file's matrices: "float32", "bfloat16" or "float16"; None is as they were loaded.
            without_head: Leave the head of an encoder out of a .gguf file, which has no place for most.

        Raises:
            UnsupportedError: the model, its head or its tokenizer has no form in GGUF.
            SettingError: the precision is unknown, or one of the two was given for a folder.
            StorageError: the disk is full or the place cannot be written.
        """
        path = Path(path)
        if path.suffix != ".gguf" and (precision is not None or without_head):
            name = "without_head" if precision is None else "precision"
            raise SettingError("is for .gguf files: a folder holds the model as it was loaded.", where=name)
        parts: dict[str, Any] = {
            "config": self.config,
            "family": self.family,
            "tokenizer": self.tokenizer,
            "generation_config": self.hf_generation_config,
            "card": self.card,
            "head_config": self.head_config,
        }
        if path.suffix == ".gguf":
            from germinal.checkpoints.gguf_writer import write_gguf

            state = base_state_dict(self.network)
            write_gguf(path, state, precision=precision, without_head=without_head, **parts)
        else:
            write_folder(path, base_state_dict(self.network), **parts)
        return path

    def add_adapter(self, folder: str | Path, name: str = "default") -> None:
        """Load a PEFT folder beside the weights; calls go through it once `adapter` names it.

        Raises:
            CheckpointError: the folder is no LoRA adapter of this network.
        """
        lora_folder.load_adapter(self.network, Path(folder), name, family=self.family)
        if "engine" in vars(self):
            self.engine.weights_changed()

    def with_forced_tokens(self, config: GenerationConfig) -> GenerationConfig:
        """Settings with the checkpoint's own forced tokens, where they name none."""
        defaults = self.generation_defaults
        names = ("forced_bos_id", "forced_eos_id")
        forced = {name: getattr(defaults, name) for name in names if getattr(config, name) is None}
        return replace(config, **forced)

    def _settings(self, settings: Mapping[str, Any]) -> GenerationConfig:
        config = self.generation_defaults.override(**settings)
        config.check_vocabulary(self.config.vocab_size)
        return config

    def _answers(self, prompt_ids: tuple[int, ...], config: GenerationConfig) -> list[TextStream]:
        """The n streams of one prompt; the first leads, the others follow it."""
        forks = [self.sequence(prompt_ids, config, adapter=self.adapter, index=index) for index in range(1, config.n)]
        lead = self.sequence(prompt_ids, config, adapter=self.adapter, forks=forks)
        return [TextStream(sequence, self.tokenizer) for sequence in (lead, *forks)]

    def _run(self, streams: SequenceOf[TextStream], leads: SequenceOf[Sequence]) -> Iterator[None]:
        """Step the engine until all is done, keeping the texts up to date; an early end cancels what is left."""
        added: list[Sequence] = []
        try:
            for sequence in leads:
                self.engine.add(sequence)
                added.append(sequence)
            unfinished = [each for lead in leads for each in (lead, *lead.forks)]
            writing = list(streams)
            while unfinished:
                self.engine.step()
                for stream in writing:
                    stream.advance(self.engine)
                writing = [stream for stream in writing if not stream.sequence.finished]
                unfinished = [sequence for sequence in unfinished if not sequence.finished]
                yield
        finally:
            for sequence in added:
                self.engine.cancel(sequence)


def _outside_prefixes(ids: Tensor, mask: Tensor | None, prefix_mask: Tensor | None) -> Tensor:
    """Labels of every real token that no prefix holds, [B, T]."""
    labels = ids if mask is None else ids.masked_fill(mask == 0, IGNORED)
    return labels if prefix_mask is None else labels.masked_fill(prefix_mask != 0, IGNORED)


def _texts(texts: Text | Iterable[Text]) -> list[Text]:
    return [texts] if isinstance(texts, str | tuple) else list(texts)


def _is_chat(prompt: Any) -> bool:
    return bool(prompt) and isinstance(prompt[0], Mapping)
