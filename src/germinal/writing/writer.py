"""A network that writes: prompts become requests for an engine, and the sequences that it returns texts and scores.

It is the mirror of `germinal.reading.reader`. Text and templates live here; the engine sees token ids only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import replace
from functools import cached_property
from typing import Any

from germinal.checkpoints.decoder_start import decoder_start_id
from germinal.errors import ContextWindowError, SettingError
from germinal.generation import published
from germinal.generation.backends.backend import NUM_SLOTS
from germinal.generation.backends.factory import make_backend
from germinal.generation.config import GenerationConfig
from germinal.generation.engine import Engine
from germinal.generation.sequence import Sequence
from germinal.layers.adapters import virtual_ids
from germinal.models.heads import require_head
from germinal.models.transformer import Transformer
from germinal.progress import Progress, Reporter, silent
from germinal.text.answer_tokens import answer_tokens, closing_id
from germinal.text.content import Content, encode_prompt
from germinal.text.tokenizer import Tokenizer
from germinal.writing.driver import Driver
from germinal.writing.pending import Pending, TextStream
from germinal.writing.request import Completion, Request, Response


class Writer:
    """A network and its tokenizer, for writing.

    Args:
        network: The Transformer.
        tokenizer: Its tokenizer.
        hf_generation_config: The checkpoint's generation_config.json as published.
        name: What to call the model in errors.

    Attributes:
        defaults: The checkpoint's own settings, under those that a call gives.
        max_length: Most tokens of prompt and answer together, where the checkpoint asks for that and a call does not
            give `max_new_tokens`.
        two_stacks: Whether it is an encoder-decoder: the encoder reads the prompt, the decoder writes the answer.

    Raises:
        UnsupportedError: generation_config.json asks for something that germinal does not do.
    """

    def __init__(
        self, network: Transformer, tokenizer: Tokenizer, hf_generation_config: Mapping[str, Any], name: str
    ) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.hf_generation_config = hf_generation_config
        self.name = name
        self.two_stacks = network.config.stacks == "encoder-decoder"
        self.max_length = None if self.two_stacks else published.total_length(hf_generation_config)
        self.defaults = GenerationConfig.from_hf(hf_generation_config, encoder_decoder=self.two_stacks)
        ends = self.defaults.eos_ids
        if ends is None and tokenizer.eos_id is not None:
            ends = (tokenizer.eos_id,)
        if ends is not None:  # an id that the model can't write ends nothing, as in transformers
            ends = tuple(id for id in ends if id < network.config.vocab_size)
        self.defaults = self.defaults.override(eos_ids=ends)

    @cached_property
    def driver(self) -> Driver:
        """The driver of all calls. Like the model, it belongs to one thread.

        Raises:
            UnsupportedError: the model does not write texts.
        """
        return Driver(self.make_engine())

    def make_engine(self, num_slots: int = NUM_SLOTS) -> Engine:
        """Another engine on this network, for callers that drive it themselves.

        Args:
            num_slots: Sequences that run at the same time.

        Raises:
            UnsupportedError: the model does not write texts.
        """
        require_head(self.network.config, self.name, "generate or score texts", "lm")
        return Engine(make_backend(self.network, num_slots))

    def weights_changed(self) -> None:
        """The network or one of its adapters was changed: what was computed with it is not used again."""
        if "driver" in vars(self):
            self.driver.weights_changed()

    def ends(self, *, chat: bool) -> tuple[int, ...]:
        """The tokens that end an answer: those that the checkpoint names, and in a chat what closes a turn.

        The checkpoint's are those of generation_config.json, else of config.json, else the tokenizer's.
        """
        named = set(self.defaults.eos_ids or ())
        return tuple(sorted(named | {self.turn_end} if chat and self.turn_end is not None else named))

    @cached_property
    def turn_end(self) -> int | None:
        """The token with which the chat template closes an answer, if it is one that the model can write."""
        found = closing_id(self.tokenizer)
        return found if found is not None and found < self.network.config.vocab_size else None

    @property
    def taught_end(self) -> int | None:
        """The token that tuning teaches as the end where no template closes the answer: one of `ends`."""
        ends = self.ends(chat=False)
        return self.tokenizer.eos_id if not ends or self.tokenizer.eos_id in ends else ends[0]

    def generation_config(
        self, settings: Mapping[str, Any], prompt_tokens: int | None = None, *, chat: bool = False
    ) -> GenerationConfig:
        """A call's settings over the checkpoint's own.

        Args:
            prompt_tokens: Length of the prompt, where it counts: see `max_length`.
            chat: Whether the prompt is a chat, so that the end of a turn ends the answer too.

        Raises:
            SettingError: a setting is unknown, out of range or without effect, or names a token that the model lacks.
            UnsupportedError: beam search is to sample, or to report log-probabilities.
            ContextWindowError: the checkpoint's `max_length` leaves no room for an answer.
        """
        defaults = self.defaults
        if chat and self.turn_end is not None:
            defaults = defaults.override(eos_ids=self.ends(chat=True))
        if self.max_length is not None and prompt_tokens is not None and settings.get("max_new_tokens") is None:
            room = self.max_length - prompt_tokens
            if room < 1:
                what = (
                    f"the prompt has {prompt_tokens:,} tokens, and max_length, which counts it, is {self.max_length:,}."
                )
                hint = "Give max_new_tokens, which counts the answer alone and comes before it."
                raise ContextWindowError(what, where=f"{self.name}: {published.FILE}", hint=hint)
            defaults = defaults.override(max_new_tokens=room)
        config = defaults.override(**settings)
        config.check_vocabulary(self.network.config.vocab_size)
        return config

    # Text in, text out

    def generate(
        self, prompts: SequenceOf[Content], settings: Mapping[str, Any], adapter: str | None = None
    ) -> list[list[Completion]]:
        """Answer all prompts at the same time, each `n` times.

        What is sampled depends on the seed and the prompt alone, and not on the other prompts or on their order. Equal
        prompts get different answers: those that `n` would give.

        Args:
            settings: `GenerationConfig`'s, over the checkpoint's own.

        Raises:
            SettingError: as of `generation_config`.
            ContextWindowError: a prompt does not fit the context window.
            TemplateError: messages were given, and the model has no chat template.
            UnsupportedError: the model does not write texts.
        """
        answered = [self._encoded(prompt, settings) for prompt in prompts]
        asked: Counter[tuple[int, ...]] = Counter()  # answers to equal prompts, which are draws of one distribution
        pendings: list[Pending] = []
        for ids, config in answered:
            request = Request(ids, config, adapter=adapter, answers=config.n, first=asked[ids])
            asked[ids] += config.n
            pendings.append(self._pending(request))
        for _ in self.driver.run(pendings):
            pass
        return [list(pending.response().completions) for pending in pendings]

    def stream(self, prompt: Content, settings: Mapping[str, Any], adapter: str | None = None) -> Iterator[str]:
        """Answer one prompt, piece by piece; the pieces together are the text that `generate` gives.

        Raises:
            SettingError: several answers are asked for.
            ContextWindowError, TemplateError, UnsupportedError: as of `generate`.
        """
        if self.generation_config(settings).n > 1:
            raise SettingError("several answers cannot be streamed as one text.", where="n", hint="Use generate.")
        ids, config = self._encoded(prompt, settings)
        pending = self._pending(Request(ids, config, adapter=adapter))
        for _ in self.driver.run([pending]):
            yield from (piece.text for piece in pending.take() if piece.text)

    def score(self, prompt: Content, continuations: SequenceOf[str], adapter: str | None = None) -> list[float]:
        """Log-probability of each continuation given the prompt, in nats, at most 0. The prompt is computed once.

        After a chat a continuation is the assistant's answer, as the template writes it, without the end of the turn.

        Raises:
            ContextWindowError, TemplateError, UnsupportedError: as of `generate`.
        """
        requests = [
            Request(context, continuations=(continuation,), adapter=adapter)
            for context, continuation in (self._split(prompt, each) for each in continuations)
        ]
        scores = {number: response.scores[0] for number, response in self.respond(requests)}
        return [scores[number] for number in range(len(requests))]

    # Token ids in, responses out

    def respond(
        self, requests: Iterable[Request], reporter: Reporter = silent, task: str = "answer"
    ) -> Iterator[tuple[int, Response]]:
        """Answer many requests at the same time: what predictors and benchmarks run on.

        Args:
            reporter: Told of every response, in examples.
            task: What the reporter calls the work.

        Yields:
            Each request's number and its response, as they finish. Stopping early cancels the rest.

        Raises:
            ContextWindowError: a prompt does not fit the context window.
            SettingError: a request asks for nothing.
            UnsupportedError: the model does not write texts.
        """
        numbers = {self.pending(request): number for number, request in enumerate(requests)}
        for done, pending in enumerate((each for step in self.driver.run(numbers) for each in step), start=1):
            reporter(Progress(task, done, len(numbers), "examples"))
            yield numbers[pending], pending.response()

    def pending(self, request: Request) -> Pending:
        """The sequences of a request, for an engine. `respond` runs them; a server runs them beside those of others.

        Tokens that the checkpoint forces are forced here too, unless the request's settings force others.

        Raises:
            SettingError: the request asks for nothing.
        """
        if request.generation is None:
            return self._pending(request)
        forced = {
            name: getattr(self.defaults, name)
            for name in ("forced_bos_id", "forced_eos_id")
            if getattr(request.generation, name) is None
        }
        return self._pending(replace(request, generation=replace(request.generation, **forced)))

    # What an answer begins with

    @property
    def decoder_start_id(self) -> int:
        """The token that the decoder of an encoder-decoder starts with.

        Raises:
            CheckpointError: the checkpoint names none.
        """
        return decoder_start_id(self.hf_generation_config, self.name)

    @property
    def opening(self) -> tuple[int, ...]:
        """The tokens that the checkpoint makes every answer begin with."""
        forced = self.defaults.forced_bos_id
        return () if forced is None else (forced,)

    @property
    def answer_start(self) -> tuple[int, ...] | None:
        """What the decoder of an encoder-decoder reads before an answer; None if the answer follows the prompt."""
        return (self.decoder_start_id, *self.opening) if self.two_stacks else None

    def _encoded(self, prompt: Content, settings: Mapping[str, Any]) -> tuple[tuple[int, ...], GenerationConfig]:
        """A prompt's token ids, and the settings for its answer."""
        ids = encode_prompt(prompt, self.tokenizer, answered=not self.two_stacks)
        return ids, self.generation_config(settings, len(ids), chat=not isinstance(prompt, str))

    def _split(self, prompt: Content, continuation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids of a prompt and of a text that follows it."""
        if isinstance(prompt, str):
            pair = self.tokenizer.encode_continuation(prompt, continuation, apart=self.two_stacks)
            return tuple(pair[0]), tuple(pair[1])
        ids = encode_prompt(prompt, self.tokenizer)
        if self.two_stacks:
            return ids, tuple(self.tokenizer.encode(continuation, add_special_tokens=False))
        return ids, answer_tokens(prompt, continuation, self.tokenizer).ids

    def _pending(self, request: Request) -> Pending:
        """One sequence leads and computes the prompt; the others fork from it at the prompt's end."""
        ids, config, adapter = request.prompt_ids, request.generation, request.adapter
        targets = [(*self.opening, *continuation) for continuation in request.continuations]
        if config is None:
            if not targets:
                raise SettingError("asks for nothing.", where="request", hint="Give generation or continuations.")
            others = tuple(self._sequence(ids, target_ids=target, adapter=adapter) for target in targets[1:])
            lead = self._sequence(ids, target_ids=targets[0], adapter=adapter, forks=others)
            return Pending(lead, (), (lead, *others), len(self.opening))
        scored = tuple(self._sequence(ids, target_ids=target, adapter=adapter) for target in targets)
        first, *rest = range(request.first, request.first + request.answers)
        others = tuple(self._sequence(ids, config, adapter=adapter, index=index) for index in rest)
        lead = self._sequence(ids, config, adapter=adapter, index=first, forks=(*others, *scored))
        streams = tuple(TextStream(each, self.tokenizer, index) for index, each in enumerate((lead, *others)))
        return Pending(lead, streams, scored, len(self.opening))

    def _sequence(self, prompt_ids: Iterable[int], config: GenerationConfig | None = None, **settings: Any) -> Sequence:
        """A sequence for the engine; the prompt of an encoder-decoder is what its encoder reads."""
        settings["virtual_ids"] = virtual_ids(self.network, settings.get("adapter"))
        if self.two_stacks:
            return Sequence((self.decoder_start_id,), config, encoder_input_ids=prompt_ids, **settings)
        return Sequence(prompt_ids, config, **settings)
