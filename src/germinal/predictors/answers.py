"""From a model's output to an answer: labels, outputs, answer rules and priors, as pure functions.

An `Output` is what was computed for one input; the ledger keeps it. An `Answer` is what a rule makes of an output, at
any time and without the model. The rules:

- `generate`: the label at the start of the generated text, see `parse_label`. If a task has no labels, the text itself
  is the answer.
- `likelihood`: the label whose whole word is the likeliest continuation of the prompt.
- `calibrated`: the same after each label's probability has been divided by its prior, so that a model that leans
  towards "positive" has to be surer of it. The priors are the mean probabilities over some inputs of the training
  split (batch calibration, Zhou et al. 2024, arXiv 2309.17249) or over inputs without content (contextual calibration,
  Zhao et al. 2021, arXiv 2102.09690). Both divide and normalise again, and differ only in the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from germinal.data.normal_forms import comparable, tidy
from germinal.errors import SettingError, nearest
from germinal.predictors import label_text

Rule = Literal["generate", "likelihood", "calibrated"]
RULES: tuple[Rule, ...] = get_args(Rule)

CONTENT_FREE_INPUTS = ("N/A", "", "[MASK]")
"""The inputs without content of Zhao et al. 2021, section 5."""

TEXT_TOKENS = 128
"""Most tokens of an answer that is a text, unless the settings say otherwise."""

BATCH_CALIBRATION_INPUTS = 64
"""How many training inputs estimate the priors of batch calibration."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a classification, each with the word that stands for it in prompts and answers.

    Attributes:
        words: Label -> word, without blanks around it. Their order decides ties, and is that of figures.

    Raises:
        SettingError: there are fewer than two labels, a word is blank, or two words differ in nothing but case, blanks,
            Unicode form or unseen characters.
    """

    words: Mapping[str, str]

    def __post_init__(self) -> None:
        if len(self.words) < 2:
            raise SettingError(f"a classification needs at least two labels, not {len(self.words)}.", where="labels")
        owners: dict[str, str] = {}
        for label, word in self.words.items():
            if not tidy(word):
                raise SettingError(f"label '{label}' has a blank word.", where="labels", hint="Give it a word.")
            form = label_text.folded(comparable(word))
            if form in owners:
                what = f"labels {owners[form]!r} and {label!r} have the same word {word!r}, apart from case and blanks."
                hint = "Write a label alike in all rows, and give different labels words of their own."
                raise SettingError(what, where="labels", hint=hint)
            owners[form] = label
        # A blank would be a token of its own, or two spaces in a prompt, and no model answers so.
        object.__setattr__(self, "words", {label: tidy(word) for label, word in self.words.items()})

    @classmethod
    def of(cls, names: Iterable[str], words: Mapping[str, str] | None = None) -> Labels:
        """Labels in sorted order. Each is its own word unless `words`, label -> word, has another for it.

        Raises:
            SettingError: `words` has a word for a label that is not among the names, or two, or as of `Labels`.
        """
        known = sorted(set(names))
        chosen = {tidy(name): word for name, word in (words or {}).items()}  # as labels are read from data
        if words and len(chosen) < len(words):
            raise SettingError(
                "two names are the same label, apart from blanks.", where="labels", hint="Give each label one word."
            )
        for label in chosen:
            if label not in known:
                raise SettingError(f"there is no label '{label}'.", where="labels", hint=nearest(label, known))
        return cls({label: chosen.get(label, label) for label in known})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.words)


@dataclass(frozen=True, slots=True)
class Output:
    """What was computed for one input.

    Attributes:
        text: The generated text, or None if nothing was generated.
        finish_reason: Why generation ended ("stop", "length").
        token_ids: The generated tokens.
        label_logprobs: Label -> log-probability of its whole word after the prompt, in nats; None if not asked for.
        prompt_tokens: Length of the prompt.
        computed_tokens: Tokens that went through the network; fewer than the prompt has if a prefix was shared.
        dropped_examples: Few-shot examples that the context window's policy left out.
        truncated_tokens: Tokens that it cut from the input.
        error: Why there is no output. Such an output is never cached.
    """

    text: str | None = None
    finish_reason: str | None = None
    token_ids: tuple[int, ...] = ()
    label_logprobs: Mapping[str, float] | None = None
    prompt_tokens: int = 0
    computed_tokens: int = 0
    dropped_examples: int = 0
    truncated_tokens: int = 0
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`; floats keep every bit."""
        value = {attribute.name: getattr(self, attribute.name) for attribute in fields(self)}
        value["token_ids"] = list(self.token_ids)
        value["label_logprobs"] = None if self.label_logprobs is None else dict(self.label_logprobs)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Output:
        return cls(**{**value, "token_ids": tuple(value["token_ids"])})


@dataclass(frozen=True, slots=True)
class Answer:
    """A predictor's answer to one input.

    Attributes:
        label: The label. None if the task has no labels, and in a failed answer, which counts as wrong.
        text: The generated text, or the label's word. If the task has no labels, it is the answer.
        probabilities: Label -> probability, summing to 1, if the rule gives them.
        error: Why there is no answer.
    """

    label: str | None
    text: str
    probabilities: Mapping[str, float] | None = field(default=None)
    error: str | None = None

    @property
    def said(self) -> str | None:
        """What is measured: the label, or the text if the task has no labels; None if the answer failed."""
        if self.error is not None:
            return None
        return self.text if self.label is None else self.label

    def to_json(self) -> dict[str, Any]:
        probabilities = None if self.probabilities is None else dict(self.probabilities)
        return {"label": self.label, "text": self.text, "probabilities": probabilities, "error": self.error}


def decide(rule: Rule, output: Output, labels: Labels | None, priors: Mapping[str, float] | None = None) -> Answer:
    """Apply an answer rule to an output.

    Args:
        labels: None if answers are texts.
        priors: Label -> prior probability, for the rule "calibrated" and no other.

    Raises:
        SettingError: there is no such rule, or priors are missing or superfluous.
        ValueError: the output lacks what the rule needs.
    """
    check_rule(rule, priors, labels)
    if output.error is not None:
        return Answer(label=None, text=output.text or "", error=output.error)
    if rule == "generate":
        if output.text is None:
            raise ValueError("the rule 'generate' needs a generated text")
        if labels is None:
            return Answer(None, tidy(output.text))  # the form of right answers in the data
        label = parse_label(output.text, labels)
        error = None if label else f"no label at the start of {_shortened(output.text)!r}"
        return Answer(label, output.text, error=error)
    if output.label_logprobs is None or labels is None:
        raise ValueError(f"the rule '{rule}' needs the labels' log-probabilities")
    probabilities = label_probabilities(output.label_logprobs, labels, priors)
    label = max(labels.names, key=lambda name: probabilities[name])
    return Answer(label, labels.words[label], probabilities)


def check_rule(rule: str, priors: Mapping[str, float] | None, labels: Labels | None) -> None:
    """Check that the rule exists, and that there are priors of all labels if and only if it needs them.

    Raises:
        SettingError: says what does not fit.
    """
    if rule not in RULES:
        raise SettingError(f"there is no answer rule '{rule}'.", where="rule", hint=nearest(rule, list(RULES)))
    if labels is None and rule != "generate":
        raise SettingError(
            f"the rule '{rule}' needs labels.", where="rule", hint="If answers are texts, the rule is 'generate'."
        )
    if (priors is not None) != (rule == "calibrated"):
        what = f"the rule '{rule}' {'needs' if priors is None else 'takes no'} priors."
        raise SettingError(what, where="priors", hint="Only 'calibrated' divides by priors.")
    names = labels.names if labels is not None else ()
    lacking = [name for name in names if priors is not None and not priors.get(name, 0) > 0]
    if lacking:
        raise SettingError(
            f"label '{lacking[0]}' has no prior above 0.", where="priors", hint="Give each label a prior."
        )


def label_probabilities(
    label_logprobs: Mapping[str, float], labels: Labels, priors: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Label -> probability: a softmax over the log-probabilities, in nats, after dividing by the priors if given.

    The order is that of `labels`, and the probabilities sum to 1.
    """
    scores = {name: label_logprobs[name] for name in labels.names}
    if priors is not None:
        scores = {name: score - math.log(priors[name]) for name, score in scores.items()}
    highest = max(scores.values())
    weights = {name: math.exp(score - highest) for name, score in scores.items()}
    total = math.fsum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def priors_from(outputs: Sequence[Output], labels: Labels) -> dict[str, float]:
    """Label -> mean probability over some outputs, without those that failed.

    Over training inputs these are the priors of batch calibration, over `CONTENT_FREE_INPUTS` those of contextual
    calibration.

    Raises:
        ValueError: no output has the labels' log-probabilities.
    """
    scored = [output.label_logprobs for output in outputs if output.error is None and output.label_logprobs is not None]
    if not scored:
        raise ValueError("priors need at least one output with the labels' log-probabilities")
    probabilities = [label_probabilities(logprobs, labels) for logprobs in scored]
    smallest = math.ulp(0.0)  # so that an underflow does not become a division by zero
    return {name: max(math.fsum(p[name] for p in probabilities) / len(scored), smallest) for name in labels.names}


def parse_label(text: str, labels: Labels) -> str | None:
    """The label whose word stands at the start of a generated text, or None.

    Case is ignored, and so are spaces and punctuation before the word, and what follows it unless that makes another
    word or number of it. With the word "Positive", the texts "positive.", "**Positive** because ..." and
    "\\n'POSITIVE'" are answers; "Positively", "non-positive" and "The review is positive" are not. With the word "1",
    "1." and "(1)" are; "-1", "- 1", "–1", "1.5", "1/2" and ">1" are not. If one word begins with another ("neutral to
    good", "neutral"), the longest counts.
    """
    words = {name: label_text.folded(word) for name, word in labels.words.items()}
    by_length = sorted(words, key=lambda name: len(words[name]), reverse=True)
    for opening in label_text.openings(label_text.folded(text)):
        for name in by_length:
            if label_text.begins_with(opening, words[name]):
                return name
    return None


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
