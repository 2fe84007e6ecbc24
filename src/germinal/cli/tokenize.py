"""`germinal tokenize`: the tokens of a text, as a model reads it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from germinal.cli.inputs import read_text
from germinal.cli.options import JsonOption, ModelArgument, QuietOption
from germinal.cli.views.tables import table


def tokenize(
    model: ModelArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text; - reads standard input.")],
    special: Annotated[
        bool, typer.Option("--special/--no-special", help="Add the tokens that the model starts or ends a text with.")
    ] = True,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show the pieces of a text, their ids, whether they give the text back, and which tokens end an answer."""
    from germinal.checkpoints import read_tokenizer_and_path
    from germinal.checkpoints.answer_ends import answer_ends
    from germinal.cli.views.console import stdout
    from germinal.cli.views.reporter import reporter

    source = read_text(text)
    with reporter(quiet=quiet) as report:
        tokenizer, path = read_tokenizer_and_path(model, reporter=report)
    ids = tokenizer.encode(source, add_special_tokens=special)
    pieces = tokenizer.pieces(ids)
    decoded = tokenizer.decode(ids)
    ends = answer_ends(path, tokenizer)
    if as_json:
        found: dict[str, Any] = {"ids": ids, "pieces": pieces, "decoded": decoded, "round_trip": decoded == source}
        found["answer_ends"] = [asdict(end) for end in ends]
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    texts = (_shown(tokenizer.token_bytes(id)) for id in ids)
    rows = ((piece, str(id), text) for piece, id, text in zip(pieces, ids, texts, strict=True))
    stdout.print(table(("piece", "id", "text"), rows, right=("id",)))
    verdict = "give the text back" if decoded == source else f"do not give the text back, but {decoded!r}"
    stdout.print(f"\n{len(ids)} tokens, {len(source)} characters; the tokens {verdict}.", soft_wrap=True)
    for end in ends:
        piece = tokenizer.pieces([end.id])[0] if 0 <= end.id < tokenizer.vocab_size else "not in the vocabulary"
        sources = ", ".join(end.sources)
        stdout.print(f"Token {end.id} ({piece}) ends {end.ends}: {sources}.", soft_wrap=True, markup=False)


def _shown(token: bytes) -> str:
    """A token's text in quotes, so that spaces can be seen; in hex, if it is a part of a character."""
    try:
        return repr(token.decode())
    except UnicodeDecodeError:
        return token.hex(" ")
