"""`germinal tune`: a LoRA adapter from a file of inputs and right answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from germinal.cli.options import ModelArgument, PrecisionOption, QuietOption

if TYPE_CHECKING:
    from germinal.language_model import LanguageModel
    from germinal.text.prompt import Prompt
    from germinal.training.examples import TuningExample

_PROMPT, _LORA, _TRAINING = "The prompt", "The adapter", "Training"


def tune(
    model: ModelArgument,
    data: Annotated[Path, typer.Option(metavar="FILE", help="A csv, tsv, jsonl or parquet file.")],
    input: Annotated[str, typer.Option(metavar="COLUMN", help="The column with the inputs.")] = "input",
    target: Annotated[str, typer.Option(metavar="COLUMN", help="The column with the right answers.")] = "target",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the run and its adapter/ are written.")
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
    epochs: Annotated[int, typer.Option(help="Passes over the data.", rich_help_panel=_TRAINING)] = 1,
    learning_rate: Annotated[float, typer.Option(help="The highest.", rich_help_panel=_TRAINING)] = 1e-3,
    micro_batch_size: Annotated[int, typer.Option(help="Examples at once.", rich_help_panel=_TRAINING)] = 8,
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
    """Tune a LoRA adapter, the loss on the answers only, and write it as a PEFT folder.

    Killed and called again with the same options, it goes on where it was.
    """
    from germinal.cli.console import stdout
    from germinal.cli.loading import load
    from germinal.cli.reporter import reporter
    from germinal.text.prompt import Prompt
    from germinal.training.config import LoRAConfig, TrainingConfig
    from germinal.training.lora import tune_lora

    # Whatever is wrong with options or data is told before the model is loaded.
    modules = tuple(name.strip() for name in target_modules.split(","))
    lora = LoRAConfig(rank=rank, alpha=alpha, dropout=dropout, target_modules=modules)
    training = TrainingConfig(
        epochs=epochs,
        micro_batch_size=micro_batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        learning_rate=learning_rate,
        seed=seed,
        validation_fraction=validation_fraction,
    )
    prompt = Prompt(instruction=instruction, answer=answer, chat=chat)
    pairs = _pairs(data, input, target)
    lm = load(model, precision=precision, quiet=quiet)
    examples = _examples(lm, prompt, pairs)
    with reporter(quiet=quiet) as report:
        adapter = tune_lora(lm, examples, lora, training, output, report)
    result = json.loads((output / "result.json").read_text(encoding="utf-8"))
    loss = result["best_validation_loss"]
    measured = f", best validation loss {loss:.4f} at step {result['best_step']}" if loss is not None else ""
    stdout.print(f"{result['steps']} steps on {len(examples)} examples{measured}.", soft_wrap=True)
    stdout.print(f"Adapter: {adapter}", soft_wrap=True)


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
