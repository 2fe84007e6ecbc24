"""`germinal tune`: a LoRA adapter, or of an encoder a head for classes, from a file of inputs and right answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from germinal.cli.options import ModelArgument, PrecisionOption, QuietOption

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel
    from germinal.text.prompt import Prompt
    from germinal.training.config import LoRAConfig, TrainingConfig
    from germinal.training.examples import TuningExample

_PROMPT, _LORA, _TRAINING = "The prompt", "The adapter", "Training"


def tune(
    context: typer.Context,
    model: ModelArgument,
    data: Annotated[Path, typer.Option(metavar="FILE", help="A csv, tsv, jsonl or parquet file.")],
    input: Annotated[str, typer.Option(metavar="COLUMN", help="The column with the inputs.")] = "input",
    target: Annotated[str, typer.Option(metavar="COLUMN", help="The column with the right answers.")] = "target",
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where the run and its adapter/ or model/ are written."),
    ] = Path("tuned"),
    instruction: Annotated[str, typer.Option(help="First line of the prompt.", rich_help_panel=_PROMPT)] = "",
    answer: Annotated[
        str, typer.Option(help="Last line, after which the answer starts.", rich_help_panel=_PROMPT)
    ] = "",
    chat: Annotated[
        bool, typer.Option("--chat/--no-chat", help="Use the model's chat template.", rich_help_panel=_PROMPT)
    ] = False,
    rank: Annotated[int, typer.Option(help="Rank of the update.", rich_help_panel=_LORA)] = 8,
    alpha: Annotated[float, typer.Option(help="It is scaled by alpha / rank.", rich_help_panel=_LORA)] = 16.0,
    dropout: Annotated[float, typer.Option(help="Dropout before the update.", rich_help_panel=_LORA)] = 0.0,
    target_modules: Annotated[
        str, typer.Option(metavar="NAMES", help="Adapted layers, or all-linear.", rich_help_panel=_LORA)
    ] = "q_proj,v_proj",
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the data.", rich_help_panel=_TRAINING, show_default="1; of an encoder 3"),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="The highest.", rich_help_panel=_TRAINING, show_default="0.001; of an encoder 0.00005"),
    ] = None,
    micro_batch_size: Annotated[
        int | None,
        typer.Option(help="Examples at once.", rich_help_panel=_TRAINING, show_default="8; of an encoder 16"),
    ] = None,
    gradient_accumulation_steps: Annotated[
        int, typer.Option(help="Micro-batches to an update.", rich_help_panel=_TRAINING)
    ] = 1,
    validation_fraction: Annotated[
        float, typer.Option(help="Part that only chooses the best checkpoint.", rich_help_panel=_TRAINING)
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Of order, dropout and fresh weights.", rich_help_panel=_TRAINING)] = 0,
    precision: PrecisionOption = None,
    quiet: QuietOption = False,
) -> None:
    """Tune a LoRA adapter, the loss on the answers only; of an encoder a head for classes, with all weights under it.

    An adapter is written as a PEFT folder, an encoder with its head as a model that `germinal classify` reads.
    Killed and called again with the same options, it goes on where it was.
    """
    from dataclasses import replace

    from germinal.cli.loading import load
    from germinal.text.prompt import Prompt
    from germinal.training.classification import HEAD_TRAINING
    from germinal.training.config import LoRAConfig, TrainingConfig

    # Whatever is wrong with options or data is told before the model is loaded.
    modules = tuple(name.strip() for name in target_modules.split(","))
    lora = LoRAConfig(rank=rank, alpha=alpha, dropout=dropout, target_modules=modules)
    given: dict[str, Any] = {
        "epochs": epochs,
        "micro_batch_size": micro_batch_size,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "learning_rate": learning_rate,
        "seed": seed,
        "validation_fraction": validation_fraction,
    }
    given = {name: value for name, value in given.items() if value is not None}
    training = TrainingConfig(**given)
    prompt = Prompt(instruction=instruction, answer=answer, chat=chat)
    pairs = _pairs(data, input, target)
    lm = load(model, precision=precision, quiet=quiet)
    if lm.config.stacks == "encoder":
        _refuse_without_effect(context)
        _tune_head(lm, pairs, replace(HEAD_TRAINING, **given), output, quiet=quiet)
    else:
        _tune_adapter(lm, prompt, pairs, lora, training, output, quiet=quiet)


def _tune_adapter(
    lm: LanguageModel,
    prompt: Prompt,
    pairs: list[tuple[str, str]],
    lora: LoRAConfig,
    training: TrainingConfig,
    output: Path,
    *,
    quiet: bool,
) -> None:
    from germinal.cli.views.console import stdout
    from germinal.cli.views.reporter import reporter
    from germinal.training.lora import tune_lora

    examples = _examples(lm, prompt, pairs)
    with reporter(quiet=quiet) as report:
        adapter = tune_lora(lm, examples, lora, training, output, report)
    _tell(output, len(examples))
    stdout.print(f"Adapter: {adapter}", soft_wrap=True)


def _tune_head(
    lm: LanguageModel, pairs: list[tuple[str, str]], training: TrainingConfig, output: Path, *, quiet: bool
) -> None:
    from germinal.cli.views.console import stdout
    from germinal.cli.views.reporter import reporter
    from germinal.training.classification import ClassExample, tune_classifier

    labels = sorted({right for _, right in pairs})
    encodings = lm.reader.tokenize([text for text, _ in pairs])
    examples = [
        ClassExample(tuple(encoding.ids), labels.index(right))
        for encoding, (_, right) in zip(encodings, pairs, strict=True)
    ]
    with reporter(quiet=quiet) as report:
        model = tune_classifier(lm, examples, labels, training, output, report)
    _tell(output, len(examples))
    stdout.print(f"Model of {len(labels)} classes: {model}", soft_wrap=True)


def _refuse_without_effect(context: typer.Context) -> None:
    """Refuse options that are for prompts and adapters.

    Raises:
        SettingError: one was given.
    """
    from germinal.errors import SettingError

    for name in ("instruction", "answer", "chat", "rank", "alpha", "dropout", "target_modules"):
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise SettingError(
                "has no effect on an encoder.",
                where=f"--{name.replace('_', '-')}",
                hint="Its texts are read without a prompt, and all its weights are tuned.",
            )


def _tell(output: Path, examples: int) -> None:
    from germinal.cli.views.console import stdout

    result = json.loads((output / "result.json").read_text(encoding="utf-8"))
    loss = result["best_validation_loss"]
    measured = f", best validation loss {loss:.4f} at step {result['best_step']}" if loss is not None else ""
    stdout.print(f"{result['steps']} steps on {examples} examples{measured}.", soft_wrap=True)


def _pairs(data: Path, input: str, target: str) -> list[tuple[str, str]]:
    """(input, right answer) of each row.

    Raises:
        DataError: the file cannot be read, lacks a column, or has a row without one of the two.
    """
    from germinal.data.readers import read_table
    from germinal.errors import DataError

    table = read_table(data)
    for column in (input, target):
        table.require_column(column)
    pairs = []
    for record in table.records:
        pair = (str(record.values.get(input) or ""), str(record.values.get(target) or ""))
        if not all(text.strip() for text in pair):
            missing = target if pair[0].strip() else input
            raise DataError(f"'{missing}' is empty.", where=record.where)
        pairs.append(pair)
    return pairs


def _examples(lm: LanguageModel, prompt: Prompt, pairs: list[tuple[str, str]]) -> list[TuningExample]:
    from germinal.training.examples import encode_example

    examples = []
    for text, right in pairs:
        context = lm.chat_template.render(prompt.messages(text)) if prompt.chat else prompt.text(text)
        continuation = right if lm.two_stacks else prompt.continuation(right)
        examples.append(
            encode_example(lm.tokenizer, context, continuation, add_special_tokens=not prompt.chat, apart=lm.two_stacks)
        )
    return examples
