"""`germinal classify`: the classes of a text or of its words, its score, or the answer to a question about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from germinal.cli.inputs import load, read_text
from germinal.cli.options import AdapterOption, JsonOption, ModelArgument, PrecisionOption, QuietOption

if TYPE_CHECKING:
    from germinal.reading.classes import Answer, Classification, TokenClassification


def classify(
    model: ModelArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text; - reads standard input.")],
    pair: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A second text, for a model that classifies pairs.")
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="A question, for a model that finds its answer in the text."),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="The message that the text answers, for a reward model, which scores it."),
    ] = None,
    precision: PrecisionOption = None,
    adapter: AdapterOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Classify a text, or its words, with a model that has a head for it."""
    from germinal.errors import SettingError
    from germinal.reading.classes import Classification

    given = [
        f"--{name}" for name, value in (("pair", pair), ("question", question), ("prompt", prompt)) if value is not None
    ]
    if len(given) > 1:
        raise SettingError(f"cannot be combined with {given[0]}.", where=given[1])
    read = read_text(text)
    lm = load(model, precision=precision, adapter=adapter, quiet=quiet)
    found: Classification | TokenClassification | Answer
    if question is not None:
        found = lm.answer(question, read)
    elif prompt is not None:
        chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": read}]
        found = Classification(None, {}, lm.reward(chat))
    else:
        found = lm.classify(read if pair is None else (read, pair))
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(found), ensure_ascii=False))
        return
    _show(found)


def _show(found: Classification | TokenClassification | Answer) -> None:
    from germinal.cli.views.console import stdout
    from germinal.cli.views.tables import table
    from germinal.reading.classes import Answer, Classification, TokenClassification

    if isinstance(found, Answer):
        stdout.print(f"{found.text}\n", soft_wrap=True)
        stdout.print(f"characters {found.start} to {found.end}, probability {found.probability:.3f}")
        if found.no_answer is not None:
            stdout.print(f"that there is none, from a model that learned to say so: {found.no_answer:.3f}")
    elif isinstance(found, TokenClassification):
        rows = ((each.text, each.label, f"{each.probability:.3f}", f"{each.start}-{each.end}") for each in found.spans)
        stdout.print(table(("span", "label", "probability", "characters"), rows, right=("probability", "characters")))
        stdout.print(f"\n{len(found.spans)} spans in {len(found.words)} words.")
    elif found.values:
        numbers = ((name, f"{value:.4f}") for name, value in found.values.items())
        stdout.print(table(("output", "value"), numbers, right=("value",)))
    elif found.probabilities:
        likely = sorted(found.probabilities.items(), key=lambda item: -item[1])
        rows_of_classes = ((label, f"{probability:.3f}") for label, probability in likely)
        stdout.print(table(("label", "probability"), rows_of_classes, right=("probability",)))
    if isinstance(found, Classification) and found.value is not None:
        stdout.print(f"output {found.value:.4f}" if found.probabilities else f"{found.value:.4f}")
