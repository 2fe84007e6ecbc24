"""From what a model put out to an answer: labels, outputs, answer rules and priors, as pure functions.

An `Output` is what was computed for one input and is kept in the ledger; an `Answer` is what a rule makes of it, and
can be made again at any time without the model. The rules:

- `generate`: the label at the start of the generated text; see `parse_label`. Where a task has no labels, the text
  itself is the answer.
- `likelihood`: the label whose whole word is the likeliest continuation of the prompt.
- `calibrated`: the same after dividing each label's probability by its prior, so that a model that says "positive" to
  everything must be more than usually sure of it. The priors are the mean probabilities over some inputs of the
  training split (batch calibration, Zhou et al. 2024, arXiv 2309.17249) or over inputs without content (contextual
  calibration, Zhao et al. 2021, arXiv 2102.09690). Both divide and normalise again; they differ only in the inputs.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from germinal.errors import SettingError, nearest

Rule = Literal["generate", "likelihood", "calibrated"]
RULES: tuple[Rule, ...] = get_args(Rule)

CONTENT_FREE_INPUTS = ("N/A", "", "[MASK]")
"""The inputs without content of Zhao et al. 2021, section 5."""

BATCH_CALIBRATION_INPUTS = 64
"""How many training inputs estimate the priors of batch calibration."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a classification, each with the word that stands for it in prompts and answers.

    Attributes:
        words: Label -> word, in the order in which ties are decided and figures are drawn.

    Raises:
        SettingError: fewer than two labels, a blank word, or two words that no answer could tell apart.
    """

    words: Mapping[str, str]

    def __post_init__(self) -> None:
        if len(self.words) < 2:
            raise SettingError(
                f"{len(self.words)} labels cannot be told apart.", where="labels", hint="Two are needed."
            )
        owners: dict[str, str] = {}
        for label, word in self.words.items():
            if not word.strip():
                raise SettingError(f"label '{label}' has a blank word.", where="labels", hint="Give it a word.")
            folded = _folded(word.strip())
            if folded in owners:
                what = f"labels '{owners[folded]}' and '{label}' have the same word '{word}', but for case."
                raise SettingError(what, where="labels", hint="Give each label its own word.")
            owners[folded] = label

    @classmethod
    def of(cls, names: Iterable[str], words: Mapping[str, str] | None = None) -> Labels:
        """Labels in sorted order, each its own word unless `words` says otherwise."""
        known = sorted(set(names))
        chosen = dict(words or {})
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
        text: The generated text, or None where nothing was generated.
        finish_reason: Why generation ended ("stop", "length").
        token_ids: The generated tokens.
        label_logprobs: Log-probability of each label's whole word after the prompt, or None where none was asked for.
        prompt_tokens: Tokens of the prompt.
        computed_tokens: Tokens that went through the network; fewer than the prompt's where a prefix was shared.
        dropped_examples: Few-shot examples that the context window's policy left out.
        truncated_tokens: Tokens of the input that it cut.
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
    """What a predictor says to one input.

    Attributes:
        label: The label. None where the task has no labels, and in a failed answer, which counts as wrong.
        text: The text behind it: what was generated, or the label's word. Without labels it is the answer.
        probabilities: Label -> probability, where the rule gives them.
        error: Why there is no answer.
    """

    label: str | None
    text: str
    probabilities: Mapping[str, float] | None = field(default=None)
    error: str | None = None

    @property
    def said(self) -> str | None:
        """What counts: the label, or the text where the task has no labels; None where it failed."""
        if self.error is not None:
            return None
        return self.text if self.label is None else self.label

    def to_json(self) -> dict[str, Any]:
        probabilities = None if self.probabilities is None else dict(self.probabilities)
        return {"label": self.label, "text": self.text, "probabilities": probabilities, "error": self.error}


def decide(rule: Rule, output: Output, labels: Labels | None, priors: Mapping[str, float] | None = None) -> Answer:
    """Apply an answer rule to an output.

    Args:
        labels: None where answers are texts.
        priors: Label -> prior probability; only the rule "calibrated" takes them, and it needs them.

    Raises:
        SettingError: no such rule, or priors are missing or superfluous.
        ValueError: the output lacks what the rule stands on.
    """
    check_rule(rule, priors, labels)
    if output.error is not None:
        return Answer(label=None, text=output.text or "", error=output.error)
    if rule == "generate":
        if output.text is None:
            raise ValueError("the rule 'generate' needs a generated text")
        if labels is None:
            return Answer(None, output.text.strip())
        label = parse_label(output.text, labels)
        error = None if label else f"no label at the start of {_shortened(output.text)!r}"
        return Answer(label, output.text, error=error)
    if output.label_logprobs is None or labels is None:
        raise ValueError(f"the rule '{rule}' needs the labels' log-probabilities")
    probabilities = label_probabilities(output.label_logprobs, labels, priors)
    label = max(labels.names, key=lambda name: probabilities[name])
    return Answer(label, labels.words[label], probabilities)


def check_rule(rule: str, priors: Mapping[str, float] | None, labels: Labels | None) -> None:
    """Raise SettingError unless there is such a rule, and priors of all labels exactly where it needs them."""
    if rule not in RULES:
        raise SettingError(f"there is no answer rule '{rule}'.", where="rule", hint=nearest(rule, list(RULES)))
    if labels is None and rule != "generate":
        raise SettingError(f"the rule '{rule}' needs labels.", where="rule", hint="Texts are answered by 'generate'.")
    if (priors is not None) != (rule == "calibrated"):
        what = f"the rule '{rule}' {'needs' if priors is None else 'takes no'} priors."
        raise SettingError(what, where="priors", hint="Only 'calibrated' divides by priors.")
    names = labels.names if labels is not None else ()
    lacking = [name for name in names if priors is not None and not priors.get(name, 0) > 0]
    if lacking:
        raise SettingError(f"label '{lacking[0]}' has no prior above 0.", where="priors", hint="Give every label one.")


def label_probabilities(
    label_logprobs: Mapping[str, float], labels: Labels, priors: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Softmax over the labels, after dividing by the priors where there are some. The order of `labels` is kept."""
    scores = {name: label_logprobs[name] for name in labels.names}
    if priors is not None:
        scores = {name: score - math.log(priors[name]) for name, score in scores.items()}
    highest = max(scores.values())
    weights = {name: math.exp(score - highest) for name, score in scores.items()}
    total = math.fsum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def priors_from(outputs: Sequence[Output], labels: Labels) -> dict[str, float]:
    """Each label's mean probability over some outputs.

    Over training inputs these are the priors of batch calibration, over `CONTENT_FREE_INPUTS` those of contextual
    calibration. Outputs that failed are left out.

    Raises:
        ValueError: no output has the labels' log-probabilities.
    """
    scored = [output.label_logprobs for output in outputs if output.error is None and output.label_logprobs is not None]
    if not scored:
        raise ValueError("priors need at least one output with the labels' log-probabilities")
    probabilities = [label_probabilities(logprobs, labels) for logprobs in scored]
    smallest = math.ulp(0.0)  # an underflow must not become a division by zero
    return {name: max(math.fsum(p[name] for p in probabilities) / len(scored), smallest) for name in labels.names}


def parse_label(text: str, labels: Labels) -> str | None:
    """The label whose word stands at the start of a generated text, or None.

    Spaces and punctuation before the word, and case, do not count; what follows the word does not either, unless it
    makes another word or number of it: with the word "Positive", the texts "positive.", "**Positive** because ..." and
    "\\n'POSITIVE'" are answers, "Positively" and "The review is positive" are not. Where one word starts another
    ("neutral", "neutral to good") the longest counts.
    """
    folded = _folded(text)
    stripped = folded.lstrip()
    bare = _without_leading_punctuation(folded)
    by_length = sorted(labels.names, key=lambda name: len(labels.words[name].strip()), reverse=True)
    # First as it stands: a word may itself begin with punctuation ("-1", "<none>").
    for candidate in (stripped, bare):
        for name in by_length:
            word = _folded(labels.words[name].strip())
            if candidate.startswith(word) and not _goes_on(word, candidate[len(word) :]):
                return name
    return None


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _without_leading_punctuation(text: str) -> str:
    start = 0
    while start < len(text) and unicodedata.category(text[start])[0] in "ZCPS":
        if text[start] in "-\N{MINUS SIGN}" and text[start + 1 : start + 2].isdigit():
            break  # "-1" is not the label "1"
        start += 1
    return text[start:]


def _goes_on(word: str, rest: str) -> bool:
    """Whether the text after a word continues it. Scripts that write words without spaces between them cannot tell."""
    if not rest or unicodedata.east_asian_width(rest[0]) in "WF":
        return False
    if word[-1].isdigit() and rest[0] in ".," and rest[1:2].isdigit():
        return True  # "4.5" is not the label "4"
    return _is_part_of_word(word[-1]) and _is_part_of_word(rest[0])


def _is_part_of_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
