"""Classes of texts and of their words, rewards, and the span of a passage that answers a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import tokenizers
import torch
from torch import Tensor

from germinal.errors import ContextWindowError, UnsupportedError
from germinal.generation.sampler import check_finite
from germinal.progress import Reporter, silent
from germinal.reading.reader import Reader, Text

Chat = Sequence[Mapping[str, Any]]

_OUTSIDE = "O"
_LONGEST_ANSWER = 15  # tokens, as usual for SQuAD


@dataclass(frozen=True, slots=True)
class Classification:
    """The class of a text.

    Attributes:
        label: The likeliest class; None for a regression.
        probabilities: Class -> probability. They sum to 1 if the classes exclude each other. Empty for a regression. A
            single output that the checkpoint does not call a regression is the log-odds of its class.
        value: The single output as it is, the value of a regression or a reward; None if there are several.
        values: Output -> value, for a regression with several outputs; else empty.
    """

    label: str | None
    probabilities: dict[str, float]
    value: float | None = None
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text with its label.

    Attributes:
        text: The part.
        start, end: Where it stands, in characters: text[start:end].
        label: Its class.
        probability: Of that class, from 0 to 1; the mean over the words of the span.
    """

    text: str
    start: int
    end: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class TokenClassification:
    """The classes of a text's words.

    Attributes:
        words: Every word with the class of its first token, the token that such models are trained on.
        spans: Neighbouring words that belong together by the prefixes B- and I- of their classes, without those
            outside of every span (O).
    """

    words: tuple[Span, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a passage answers a question.

    Attributes:
        text: The part of the passage.
        start, end: Where it stands in the passage, in characters.
        probability: Of its first token as the start times that of its last as the end, from 0 to 1.
        no_answer: How much likelier it is that the passage holds no answer than that it is this one, from 0 to 1, for a
            model that was trained on such questions: above 0.5 where SQuAD 2.0 counts the question as unanswerable (the
            score of the first token against that of the span, arXiv 1810.04805, section 4.3). None if texts of the
            model do not start with a special token.
    """

    text: str
    start: int
    end: int
    probability: float
    no_answer: float | None = None


def classify(
    reader: Reader, texts: Sequence[Text], reporter: Reporter = silent
) -> list[Classification] | list[TokenClassification]:
    """The class of each text, or of each of its words, by the model's own head.

    Raises:
        UnsupportedError: the model has no head that classifies.
        ContextWindowError: a text has more tokens than the model reads.
    """
    reader.require_head("classify", "sequence-classification", "token-classification")
    encodings = reader.tokenize(texts)
    scores = _scores(reader, encodings, reporter)
    if reader.config.head == "sequence-classification":
        return [classification(reader, logits) for logits in scores]
    if any(not isinstance(text, str) for text in texts):
        raise UnsupportedError("words are classified in one text, not in a pair of texts.", where=reader.name)
    return [
        _token_classification(reader, str(text), encoding, logits)
        for text, encoding, logits in zip(texts, encodings, scores, strict=True)
    ]


def rewards(reader: Reader, answers: Sequence[Text | Chat], reporter: Reporter = silent) -> list[float]:
    """How good each answer is, by a head with one output: a number of any size, the higher the better.

    Args:
        answers: Chats, each of which ends with the answer to judge; or texts in the form that the model was trained on.

    Raises:
        UnsupportedError: the model has no head with one output.
        TemplateError: chats were given, and the model has no chat template.
        ContextWindowError: a chat has more tokens than the model reads.
    """
    reader.require_head("judge answers", "sequence-classification")
    if reader.config.num_labels != 1:
        outputs = reader.config.num_labels
        raise UnsupportedError(f"{reader.name} has {outputs} outputs, and a reward model has one.")
    chats = bool(answers) and not isinstance(answers[0], str | tuple)
    template = reader.tokenizer.template
    texts = [
        each if isinstance(each, str | tuple) else template.render(each, add_generation_prompt=False)
        for each in answers
    ]
    encodings = reader.tokenize(texts, add_special_tokens=not chats)
    return [float(scores[0]) for scores in _scores(reader, encodings, reporter)]


def answer(reader: Reader, question: str, context: str) -> Answer:
    """The span of a passage that answers a question. A long passage is read in windows that overlap by half.

    Raises:
        UnsupportedError: the model has no head for question answering.
        ContextWindowError: the question leaves no room for the passage.
    """
    reader.require_head("answer questions about a passage", "question-answering")
    asked = len(reader.tokenizer.encodings([(question, "")])[0].ids)
    room = reader.limit - asked
    if room < 2:
        raise ContextWindowError(
            f"has {asked:,} tokens, and {reader.name} reads {reader.limit:,}: no room is left for the passage.",
            where="question",
        )
    windows = reader.tokenizer.windows(question, context, reader.limit, room // 2)
    found = [
        _best_span(context, window, logits)
        for window, logits in zip(windows, _scores(reader, windows, silent), strict=True)
    ]
    best, score, _ = max(found, key=lambda each: each[0].probability)
    no_answer = None
    if windows[0].special_tokens_mask[0]:
        no_answer = float(torch.sigmoid(torch.tensor(min(null for _, _, null in found) - score)))
    return replace(best, no_answer=no_answer)


def _scores(reader: Reader, encodings: Sequence[tokenizers.Encoding], reporter: Reporter) -> list[Tensor]:
    """The head's outputs for each text, float32 on the CPU: [num_labels], or [T, num_labels] without padding."""
    head = reader.network.head
    assert head is not None
    found: dict[int, Tensor] = {}
    for batch in reader.batches(encodings, reporter, for_head=True):
        with torch.inference_mode():
            logits = head(batch.hidden_states, reader.looked_at(batch)).float().cpu()
        for row, number in enumerate(batch.numbers):
            found[number] = logits[row] if logits.dim() == 2 else logits[row, : len(encodings[number].ids)]
    return [found[number] for number in range(len(encodings))]


def classification(reader: Reader, logits: Tensor) -> Classification:
    """The classification that the outputs [num_labels] of a head for whole texts stand for.

    Raises:
        CheckpointError: they are not finite.
    """
    check_finite(logits)
    value = float(logits[0]) if len(logits) == 1 else None
    labels = reader.head_config.labels
    if reader.head_config.regression:
        values = {} if value is not None else dict(zip(labels, logits.tolist(), strict=True))
        return Classification(None, {}, value, values)
    likely = logits.sigmoid() if value is not None or reader.head_config.multi_label else logits.softmax(-1)
    probabilities = {label: float(each) for label, each in zip(labels, likely, strict=True)}
    return Classification(labels[int(likely.argmax())], probabilities, value)


def _token_classification(
    reader: Reader, text: str, encoding: tokenizers.Encoding, logits: Tensor
) -> TokenClassification:
    """Words and spans as transformers' token-classification pipeline has them with aggregation_strategy="first"."""
    likely = logits.softmax(-1)
    words: list[Span] = []
    first = None  # the token of the space before a word, where that is a token: the first of the word, so it counts
    for place, (start, end) in enumerate(encoding.offsets):
        if encoding.special_tokens_mask[place]:
            continue
        if start == end:
            first = place
            continue
        if words and _continues_word(reader, text, encoding, place):
            last = words[-1]
            words[-1] = Span(text[last.start : end], last.start, end, last.label, last.probability)
            continue
        probability, best = likely[place if first is None else first].max(-1)
        words.append(Span(text[start:end], start, end, reader.head_config.labels[int(best)], float(probability)))
        first = None
    return TokenClassification(tuple(words), tuple(_joined(text, words)))


def _continues_word(reader: Reader, text: str, encoding: tokenizers.Encoding, place: int) -> bool:
    """Whether a token continues a word: by the vocabulary's own mark, or else because no space stands before it."""
    prefix = getattr(reader.tokenizer.backend.model, "continuing_subword_prefix", None)
    if prefix:
        return encoding.tokens[place].startswith(prefix)
    start = encoding.offsets[place][0]  # several tokens of one character all start with it
    return start > 0 and " " not in text[start - 1 : start + 1]


def _joined(text: str, words: Sequence[Span]) -> list[Span]:
    """Neighbouring words of one class as one span; B- begins a new one."""
    groups: list[list[Span]] = []
    for word in words:
        begins = word.label.startswith("B-")
        if groups and not begins and _kind(groups[-1][-1].label) == _kind(word.label):
            groups[-1].append(word)
        else:
            groups.append([word])
    return [
        Span(
            text[group[0].start : group[-1].end],
            group[0].start,
            group[-1].end,
            _kind(group[0].label),
            sum(word.probability for word in group) / len(group),
        )
        for group in groups
        if _kind(group[0].label) != _OUTSIDE
    ]


def _kind(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label


def _best_span(context: str, window: tokenizers.Encoding, logits: Tensor) -> tuple[Answer, float, float]:
    """The likeliest start and end in the window's part of the passage, not too far apart, widened to whole words.

    With it its score, the sum of the two logits, and that of the first token as start and end.
    """
    inside = torch.tensor([sequence == 1 for sequence in window.sequence_ids])
    null = float(logits[0].sum())
    if not inside.any():
        return Answer("", 0, 0, 0.0), -torch.inf, null
    starts, ends = logits.masked_fill(~inside[:, None], -torch.inf).softmax(0).unbind(-1)  # [T] each
    pairs = torch.triu(starts[:, None] * ends).tril(_LONGEST_ANSWER - 1)
    first, last = divmod(int(pairs.argmax()), len(ends))
    start, end = _characters_of_word(window, first)[0], _characters_of_word(window, last)[1]
    found = Answer(context[start:end], start, end, float(pairs[first, last]))
    return found, float(logits[first, 0] + logits[last, 1]), null


def _characters_of_word(window: tokenizers.Encoding, place: int) -> tuple[int, int]:
    """Where the word of a token of the passage starts and ends, in characters."""
    word = window.word_ids[place]
    found = None if word is None else window.word_to_chars(word, 1)
    return window.offsets[place] if found is None else found
