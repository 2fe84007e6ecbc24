"""A language model as a predictor, with its prompt, worked examples, adapter, window policy, answer rule and priors.

What the model computes for an input is an `Output`, which does not depend on the rule; what the rule makes of it is an
`Answer`. The engine sees to it that generated text and the labels' likelihoods need one pass over the prompt, and that
prompts that begin alike (instruction, examples) share that part of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from germinal.checkpoints.peft_folder import adapter_digest
from germinal.errors import CheckpointError, ContextWindowError, SettingError
from germinal.generation.config import GenerationConfig
from germinal.language_model import LanguageModel
from germinal.layers.adapters import network_adapters, virtual_ids
from germinal.loading import load
from germinal.predictors.answers import TEXT_TOKENS, Answer, Labels, Output, Rule, check_rule, decide
from germinal.predictors.folder import Shape, damaged, typed, write_content
from germinal.progress import Progress, Reporter, silent
from germinal.storage import atomic_folder, digest
from germinal.text.answer_tokens import answer_tokens
from germinal.text.context_window import ContextWindow, FittedPrompt
from germinal.text.prompt import Example, Prompt
from germinal.writing.request import Request, Response

Want = Literal["generate", "score"]

WANTED: Mapping[Rule, Want] = {"generate": "generate", "likelihood": "score", "calibrated": "score"}
"""What each answer rule needs from the model."""

_ROOM_FOR_PUNCTUATION = 3
_AT_ONCE = 512  # requests in the engine's queue: enough to fill its batches, and few enough to search quickly
_ADAPTER, _MODEL = "adapter", "model"


class _Base(Shape):
    reference: str | None
    precision: str
    fingerprint: str
    conventions: str | None = None


class _Saved(Shape):
    base: _Base
    prompt: Prompt
    labels: dict[str, str] | None
    rule: Rule
    examples: list[Example]
    priors: dict[str, float] | None
    window: ContextWindow
    generation: dict[str, Any]
    adapter: bool


class LanguageModelPredictor:
    """A language model that answers with a label, or with a text.

    Args:
        lm: The base model.
        prompt: How an input becomes a prompt.
        labels: The labels and the words that stand for them; None if answers are texts.
        rule: How an output becomes an answer.
        examples: Worked examples; their targets are the labels' words, or the right texts.
        priors: Label -> prior probability, for the rule "calibrated".
        window: The size of the context window, and what to do with a prompt that does not fit; by default the model's
            size, and an error.
        generation: Settings for generated answers. By default they are greedy, with room for the longest label; a text
            may have `TEXT_TOKENS` tokens, and ends at the prompt's separator if nothing else would end it (`ending`).
        adapter: A PEFT folder whose adapter all inputs go through. It is loaded into `lm` beside others, under a name
            made from its content.

    Raises:
        SettingError: rule, priors and labels do not go together.
        CheckpointError: the adapter does not belong to the model.
    """

    kind: ClassVar[str] = "language-model"

    def __init__(
        self,
        lm: LanguageModel,
        prompt: Prompt,
        labels: Labels | None,
        rule: Rule = "likelihood",
        *,
        examples: Sequence[Example] = (),
        priors: Mapping[str, float] | None = None,
        window: ContextWindow | None = None,
        generation: GenerationConfig | None = None,
        adapter: Path | None = None,
    ) -> None:
        check_rule(rule, priors, labels)
        self.lm = lm
        self.prompt = prompt
        self.labels = labels
        self.rule: Rule = rule
        self.examples = tuple(examples)
        self.priors = None if priors is None else dict(priors)
        self.window = window or ContextWindow(lm.config.max_position_embeddings, two_stacks=lm.two_stacks)
        self.generation = generation or self._greedy()
        self.adapter = adapter
        self.adapter_name = None if adapter is None else _loaded(lm, adapter)

    @property
    def ending(self) -> str | None:
        """The text at which a generated text ends, or None if the model alone decides.

        In a plain prompt an answer ends where the next block would start. The turns of a chat end by themselves, and so
        does the decoder of an encoder-decoder, which writes nothing but the answer. A label is read off the start of a
        text, wherever that ends.
        """
        if self.labels is not None or self.prompt.chat or self.lm.two_stacks:
            return None
        return self.prompt.separator or None

    @cached_property
    def continuation_ids(self) -> dict[str, tuple[int, ...]]:
        """Label -> the token ids that follow a prompt if this is the answer: the whole word, after a space if any.

        All prompts end alike, in the answer cue, so that one stands for all. Empty if answers are texts.
        """
        if self.labels is None:
            return {}
        whole = ContextWindow(2**31, two_stacks=self.lm.two_stacks)
        fitted = whole.fit(self.prompt, "x", tokenizer=self.lm.tokenizer, chat_template=self.lm.chat_template)
        return {label: self.continuation(fitted, word) for label, word in self.labels.words.items()}

    def continuation(self, fitted: FittedPrompt, answer: str) -> tuple[int, ...]:
        """The token ids that follow a prompt if this is the answer, without what ends it.

        In a chat they are what the template writes. After plain text, prompt and answer are encoded as one text and
        then cut. Only the answer of an encoder-decoder is encoded alone, since its decoder does not read the prompt.

        Raises:
            TemplateError: as of `text.answer_tokens.answer_tokens`.
        """
        tokenizer = self.lm.tokenizer
        if self.lm.two_stacks:
            return tuple(tokenizer.encode(answer, add_special_tokens=False))
        if self.prompt.chat:
            return answer_tokens(fitted.messages, answer, tokenizer).ids
        continuation = self.prompt.continuation(answer)
        joint = tuple(tokenizer.encode_opening(fitted.text + continuation))
        if joint[: len(fitted.ids)] == fitted.ids:
            return joint[len(fitted.ids) :]
        # A token would span the border. The prompt keeps its tokens, since it is also what is generated from.
        return tuple(tokenizer.encode(continuation, add_special_tokens=False))

    def taught(self, fitted: FittedPrompt, answer: str) -> tuple[int, ...]:
        """The token ids that tuning teaches after a prompt: the answer and its end, at which generation stops.

        The end is the token with which the chat template closes the turn, else the checkpoint's.

        Raises:
            SettingError: generation would not stop there.
            TemplateError: as of `continuation`.
        """
        writer, ends = self.lm.writer, self.generation.eos_ids
        if ends is None:
            ends = writer.ends(chat=self.prompt.chat)
        end: tuple[int, ...] = () if writer.taught_end is None else (writer.taught_end,)
        if self.prompt.chat and not self.lm.two_stacks:
            found = answer_tokens(fitted.messages, answer, self.lm.tokenizer)
            ids = found.ids
            if found.closing and found.closing[-1] == writer.turn_end:
                end = found.closing
        else:
            ids = self.continuation(fitted, answer)
        if end and end[-1] not in ends:
            (piece,) = self.lm.tokenizer.pieces(end[-1:])
            raise SettingError(
                f"tuning would teach that an answer ends with {piece!r}, token {end[-1]}, but generation does not stop "
                f"there: its ends are {list(ends)}.",
                where=f"{self.lm.card.name}: eos_token_id",
                hint="Name the token in generation_config.json, or leave eos_ids out of the settings.",
            )
        return ids + end

    def prompts_for(self, inputs: Sequence[str]) -> list[FittedPrompt]:
        """The prompts exactly as the model sees them.

        Raises:
            ContextWindowError: a prompt does not fit, and the policy does not make it fit; names the input's place.
        """
        return [self._fit(input, f"input {place}") for place, input in enumerate(inputs, start=1)]

    def outputs(
        self,
        inputs: Sequence[str],
        wanted: Collection[Want] | None = None,
        reporter: Reporter = silent,
        task: str = "answer",
    ) -> Iterator[tuple[int, Output]]:
        """Outputs, each with its input's place (from 0), as they finish.

        Args:
            wanted: "generate", "score" (the labels' log-probabilities) or both; by default what the rule needs.
            reporter: Told of every output, in examples.
            task: What the reporter calls the work.

        Raises:
            ContextWindowError: as of `prompts_for`; nothing has been computed then.
        """
        wants = {WANTED[self.rule]} if wanted is None else set(wanted)
        prompts = self.prompts_for(inputs)  # all at once, so that one that does not fit is refused before work begins
        for start in range(0, len(prompts), _AT_ONCE):
            some = prompts[start : start + _AT_ONCE]
            requests = [self._request(fitted, wants) for fitted in some]
            for done, (index, response) in enumerate(self.lm.respond(requests), start=1):
                reporter(Progress(task, start + done, len(prompts), "examples"))
                yield start + index, self.output(response, some[index])

    def predict(self, inputs: Sequence[str], reporter: Reporter = silent) -> list[Answer]:
        """An answer to each input, in their order; errors are those of `outputs`."""
        found = dict(self.outputs(inputs, reporter=reporter))
        return [self.answer(found[index]) for index in range(len(inputs))]

    def request(self, input: str) -> tuple[Request, FittedPrompt]:
        """What `outputs` asks of the model for one input, for callers that run an engine of their own.

        Raises:
            ContextWindowError: as of `prompts_for`.
        """
        fitted = self._fit(input)
        return self._request(fitted, {WANTED[self.rule]}), fitted

    def output(self, response: Response, fitted: FittedPrompt) -> Output:
        """The output for an input, from the response to its `request`."""
        completion = response.completion
        scores = dict(zip(self.continuation_ids, response.scores, strict=True)) if response.scores else None
        return Output(
            text=completion.text if completion else None,
            finish_reason=completion.finish_reason if completion else None,
            token_ids=completion.token_ids if completion else (),
            label_logprobs=scores,
            prompt_tokens=response.prompt_tokens,
            computed_tokens=response.computed_tokens,
            dropped_examples=fitted.dropped_examples,
            truncated_tokens=fitted.truncated_tokens,
        )

    def answer(self, output: Output) -> Answer:
        """What this predictor's rule makes of an output."""
        return decide(self.rule, output, self.labels, self.priors)

    def save(self, folder: Path, *, with_weights: bool = False) -> None:
        """Write the predictor as a folder, which replaces what stood there.

        Args:
            with_weights: Copy the base model into the folder. Without it the folder holds a reference to the model, and
                its fingerprint, which is checked when the predictor is loaded.
        """
        network = self.lm.network
        base = {
            "reference": None if with_weights else self.lm.reference,
            "precision": str(network.dtype).removeprefix("torch."),
            "fingerprint": self.lm.fingerprint,
            "conventions": digest(self.lm.conventions),
        }
        content = {
            "base": base,
            "prompt": asdict(self.prompt),
            "examples": [asdict(example) for example in self.examples],
            "labels": None if self.labels is None else dict(self.labels.words),
            "rule": self.rule,
            "priors": self.priors,
            "window": asdict(self.window),
            "generation": self.generation.to_dict(),
            "adapter": self.adapter is not None,
        }
        with atomic_folder(Path(folder)) as temporary:
            write_content(temporary, self.kind, content)
            if self.adapter is not None:
                shutil.copytree(self.adapter, temporary / _ADAPTER)
            if with_weights:
                self.lm.save(temporary / _MODEL)

    @classmethod
    def load(
        cls, folder: Path, content: Mapping[str, Any], lm: LanguageModel | None = None, reporter: Reporter = silent
    ) -> Self:
        """The predictor in a folder; called by `load_predictor`.

        Raises:
            CheckpointError: the folder is damaged, or the base model is another than when the predictor was saved.
        """
        saved = typed(content, _Saved, folder)
        settings = dict(saved.generation)
        try:
            if settings.get("logit_bias") is not None:
                settings["logit_bias"] = tuple((int(token), float(bias)) for token, bias in settings["logit_bias"])
            parts: dict[str, Any] = {
                "prompt": saved.prompt,
                "labels": None if saved.labels is None else Labels(saved.labels),
                "rule": saved.rule,
                "examples": saved.examples,
                "priors": saved.priors,
                "window": saved.window,
                "generation": GenerationConfig.from_settings(settings),
                "adapter": folder / _ADAPTER if saved.adapter else None,
            }
        except (TypeError, ValueError) as error:
            raise damaged(folder, error) from error
        reference, precision, fingerprint = saved.base.reference, saved.base.precision, saved.base.fingerprint
        model = lm or load(reference or folder / _MODEL, precision, reporter=reporter)
        if model.fingerprint != fingerprint:
            what = f"its base model '{model.card.name}' has other weights than when the predictor was saved."
            hint = "Use the same model, revision and precision."
            raise CheckpointError(what, where=str(folder), hint=hint)
        if saved.base.conventions not in (None, digest(model.conventions)):
            what = f"its base model '{model.card.name}' begins or ends answers otherwise than when it was saved"
            what += ": its chat template or its generation_config.json differs."
            raise CheckpointError(what, where=str(folder), hint="Use the files that the model had then.")
        return cls(model, **parts)

    def _greedy(self) -> GenerationConfig:
        eos_ids = self.lm.writer.ends(chat=self.prompt.chat) or self.lm.generation_defaults.eos_ids
        if self.labels is None:
            stop = (self.ending,) if self.ending else ()
            return GenerationConfig(max_new_tokens=TEXT_TOKENS, eos_ids=eos_ids, stop=stop)
        longest = max(len(ids) for ids in self.continuation_ids.values())
        return GenerationConfig(max_new_tokens=longest + _ROOM_FOR_PUNCTUATION, eos_ids=eos_ids)

    def _fit(self, input: str, where: str = "input") -> FittedPrompt:
        answer = max([self.generation.max_new_tokens, *(len(ids) for ids in self.continuation_ids.values())])
        try:
            return self._room().fit(
                self.prompt,
                input,
                self.examples,
                tokenizer=self.lm.tokenizer,
                chat_template=self.lm.chat_template,
                reserve=answer,
            )
        except ContextWindowError as error:
            raise ContextWindowError(error.what, where=where, hint=error.hint) from error

    def _room(self) -> ContextWindow:
        """The window that the adapter's virtual tokens leave."""
        virtual = len(virtual_ids(self.lm.network, self.adapter_name))
        return replace(self.window, size=self.window.size - virtual) if virtual else self.window

    def _request(self, fitted: FittedPrompt, wants: Collection[Want]) -> Request:
        return Request(
            prompt_ids=fitted.ids,
            generation=self.generation if "generate" in wants else None,
            continuations=tuple(self.continuation_ids.values()) if "score" in wants else (),
            adapter=self.adapter_name,
        )


def _loaded(lm: LanguageModel, adapter: Path) -> str:
    """The name of an adapter in the model, which is loaded once for all predictors that use it."""
    name = f"adapter-{adapter_digest(adapter)[:16]}"
    if name not in network_adapters(lm.network):
        lm.add_adapter(adapter, name)
    return name
