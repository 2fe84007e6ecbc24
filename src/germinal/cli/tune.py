"""`germinal tune`: a LoRA adapter, or on an encoder a classification head, from a file of inputs and right answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from germinal.cli.inputs import load
from germinal.cli.options import ModelArgument, PrecisionOption, QuietOption, config_options
from germinal.layers.lora_config import LoRAConfig
from germinal.text.prompt import Prompt
from germinal.training.config import HEAD_TRAINING, TrainingConfig


@config_options("prompt", Prompt(), panel="The prompt", without=("separator",))
@config_options("lora", LoRAConfig(), panel="The adapter")
@config_options("training", TrainingConfig(), panel="Training", of_encoder=HEAD_TRAINING)
def tune(
    model: ModelArgument,
    data: Annotated[Path, typer.Option(metavar="FILE", help="A csv, tsv, jsonl or parquet file.")],
    input: Annotated[str, typer.Option(metavar="COLUMN", help="The column with the inputs.")] = "input",
    target: Annotated[str, typer.Option(metavar="COLUMN", help="The column with the right answers.")] = "target",
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where the run and its adapter/ or model/ are written."),
    ] = Path("tuned"),
    precision: PrecisionOption = None,
    quiet: QuietOption = False,
    *,
    prompt: dict[str, Any],
    lora: dict[str, Any],
    training: dict[str, Any],
) -> None:
    """Tune a LoRA adapter on right answers; an encoder gets a classification head, tuned together with all its weights.

    An adapter is written as a PEFT folder, an encoder with its head as a model that `germinal classify` reads.
    If it is killed, the same command resumes it.
    """
    from germinal.cli.views.console import stdout
    from germinal.cli.views.reporter import reporter
    from germinal.data import read_pairs

    # Wrong settings and data are refused before the model is loaded.
    Prompt(**prompt), LoRAConfig(**lora), TrainingConfig(**training)
    pairs = read_pairs(data, input=input, target=target)
    lm = load(model, precision=precision, quiet=quiet)

    from germinal.training.run_folder import read_result
    from germinal.training.tune import tune as tune_model

    with reporter(quiet=quiet) as report:
        tuned = tune_model(lm, pairs, output, prompt=prompt, lora=lora, training=training, reporter=report)
    result = read_result(output)
    loss = result["best_validation_loss"]
    measured = f", best validation loss {loss:.4f} at step {result['best_step']}" if loss is not None else ""
    stdout.print(f"{result['steps']} steps on {len(pairs)} examples{measured}.", soft_wrap=True)
    what = "Adapter" if tuned.labels is None else f"Model of {len(tuned.labels)} classes"
    stdout.print(f"{what}: {tuned.path}", soft_wrap=True)
