"""A look inside models of every shape: what the page holds, that it stands alone, and that nothing on it is made up."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_models import small_tokenizer

import germinal
from germinal import figures
from germinal.errors import ContextWindowError, SettingError
from germinal.inspection import Inspection, inspect
from germinal.inspection.spelling import spelt
from germinal.models.inspection import logit_lens, trace

NASTY = 'A film <b>that</b> is "warm" & </script><!-- funny 日本 🎬\nTrue.'

SIZES: dict[str, dict[str, Any]] = {
    "GPT2LMHeadModel": {"n_embd": 24, "n_head": 4, "n_layer": 2, "n_positions": 64},
    "BloomForCausalLM": {"hidden_size": 24, "n_head": 4, "n_layer": 2},
    "BertForMaskedLM": {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 40},
    "BertForSequenceClassification": {
        "hidden_size": 24,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 40,
    },
    "T5ForConditionalGeneration": {
        "d_model": 24,
        "d_kv": 6,
        "d_ff": 40,
        "num_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 0,
    },
    "BartForConditionalGeneration": {
        "d_model": 24,
        "encoder_layers": 3,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 40,
        "decoder_ffn_dim": 40,
        "max_position_embeddings": 64,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": None,
    },
}


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path) -> Callable[[str], Path]:
    """A tiny model of a class of transformers, saved by it."""
    made = {"LlamaForCausalLM": llama_folder}

    def folder(name: str) -> Path:
        if name not in made:
            tokenizer = small_tokenizer()
            tokenizer.add_special_tokens({"mask_token": "<mask>"})
            torch.manual_seed(0)
            family = re.match(r"(GPT2|Bloom|Bert|T5|Bart)", name)[1]  # type: ignore[index]
            config = getattr(transformers, f"{family}Config")(
                vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, pad_token_id=0, **SIZES[name]
            )
            model = getattr(transformers, name)(config)
            made[name] = tmp_path_factory.mktemp(name)
            model.save_pretrained(made[name])
            tokenizer.save_pretrained(made[name])
        return made[name]

    return folder


DECODERS = ["LlamaForCausalLM", "GPT2LMHeadModel", "BloomForCausalLM"]
TWO_STACKS = ["T5ForConditionalGeneration", "BartForConditionalGeneration"]
ALL = [*DECODERS, *TWO_STACKS, "BertForMaskedLM", "BertForSequenceClassification"]
PROMPTS = {"BertForMaskedLM": "A film that is <mask> and true."}


def look_at(folder_of: Callable[[str], Path], name: str, **options: Any) -> Inspection:
    return inspect(germinal.load(folder_of(name)), PROMPTS.get(name, "A film that is warm,\nfunny and"), **options)


def names(look: Inspection, start: str) -> list[str]:
    return [name for name in look.pictures if name.startswith(start)]


@pytest.mark.parametrize("name", ALL)
def test_every_shape_of_model_can_be_looked_into(folder_of: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    look = look_at(folder_of, name)
    always = ["tokens", "embeddings", "positions", "attention"]
    ids = [section.id for section in look.sections]
    assert ids == ([*always, "reading"] if "Classification" in name else [*always, "layers", "next-token"])
    maps = {"encoder"} if "Bert" in name else {"encoder", "decoder", "cross"} if name in TWO_STACKS else {"decoder"}
    assert set(names(look, "attention-")) == {f"attention-{each}" for each in maps}
    assert len(names(look, "positions-")) == (2 if name in TWO_STACKS else 1)
    written = look.save_pictures(tmp_path / "light")
    assert {path.stem for path in written} == set(look.pictures)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert all(picture.title and picture.caption for picture in look.pictures.values())


class Addresses(HTMLParser):
    """What a page would fetch, and whether what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for key, value in attributes:
            if key in ("src", "href", "srcset", "action", "data", "poster") and not (value or "").startswith("#"):
                self.found.append(f"{tag} {key}={value}")
        assert tag not in ("link", "iframe", "img", "b")


def test_the_page_stands_alone_and_takes_the_prompt_for_text(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    look = inspect(germinal.load(folder_of("LlamaForCausalLM")), NASTY, words=["</script>", "<b>", "warm"])
    path = look.save(tmp_path / "deep" / "look.html")
    page = path.read_text(encoding="utf-8")
    parser = Addresses()
    parser.feed(page)
    parser.close()
    assert parser.found == []
    assert parser.scripts == 4, "a script of the prompt's making, or one of ours cut short"
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert not re.search(r"url\(|@import", style[1])
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert set(charts) == set(look.pictures)
    assert "$schema" not in json.dumps(charts)
    assert "http" not in json.dumps([{**chart, "config": None} for chart in charts.values()])
    assert "&lt;/script&gt;" in page


def test_a_page_is_not_huge(folder_of: Callable[[str], Path]) -> None:
    lm = germinal.load(folder_of("LlamaForCausalLM"))
    short, long = (len(inspect(lm, "warm and funny " * times).html()) for times in (1, 60))
    assert long < short + 1_500_000


def rows_of(chart: dict[str, Any], field: str) -> list[dict[str, Any]]:
    """All rows of data of a chart that have a field."""
    found: list[dict[str, Any]] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            values = value.get("values")
            if isinstance(values, list):
                found.extend(row for row in values if isinstance(row, dict) and field in row)
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(chart)
    return found


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "T5ForConditionalGeneration"])
def test_the_maps_hold_the_weights(folder_of: Callable[[str], Path], name: str) -> None:
    lm = germinal.load(folder_of(name))
    target = "warm and" if name in TWO_STACKS else None
    look = inspect(lm, "A film that is", target=target)
    maps = lm.attention_maps("A film that is", target)
    for kind in ("encoder", "decoder", "cross"):
        found = getattr(maps, kind)
        if found is None:
            continue
        rows = rows_of(look.pictures[f"attention-{kind}"].chart.to_dict(), "weight")
        assert len(rows) == found.weights[..., 0].numel()
        for row in rows:
            expected = found.weights[row["layer"], row["head"], row["query"]]
            shown = torch.zeros_like(expected)
            shown[: len(row["weight"])] = torch.tensor(row["weight"]) / 1000
            torch.testing.assert_close(shown, expected, atol=5.1e-4, rtol=0)


def test_a_long_prompt_shows_its_end_and_says_so(folder_of: Callable[[str], Path]) -> None:
    lm = germinal.load(folder_of("LlamaForCausalLM"))
    picture = inspect(lm, "warm and funny " * 30).pictures["attention-decoder"]
    assert "The last 48 tokens are shown" in picture.caption
    assert max(row["query"] for row in rows_of(picture.chart.to_dict(), "weight")) == 47


def test_the_guesses_are_the_lens(folder_of: Callable[[str], Path]) -> None:
    lm = germinal.load(folder_of("GPT2LMHeadModel"))
    look = inspect(lm, "A film that is warm")
    found = trace(lm.network, lm.encode_prompt("A film that is warm"))
    for layer, logits in enumerate(logit_lens(lm.network, found.states)):
        probabilities, ids = logits.softmax(-1).max(-1)
        rows = [row for row in rows_of(look.pictures["lens"].chart.to_dict(), "shown") if row["layer"] == layer]
        assert [row["probability"] for row in rows] == pytest.approx(probabilities.tolist(), rel=1e-5)
        said = [re.search(r": “(.*)” comes next", row["text"])[1] for row in rows]  # type: ignore[index]
        assert said == spelt(lm.tokenizer, ids.tolist())
    growth = rows_of(look.pictures["growth"].chart.to_dict(), "token")
    last = [row for row in growth if row["layer"] == 1]
    answer = lm.next_token_distribution("A film that is warm").top(6)
    assert sorted((row["probability"] for row in last), reverse=True) == pytest.approx([p for _, p in answer], rel=1e-4)


def test_what_was_cut_is_told(folder_of: Callable[[str], Path]) -> None:
    lm = germinal.load(folder_of("LlamaForCausalLM"))
    settings = {"temperature": 0.7, "top_k": 9, "top_p": 0.6}
    look = inspect(lm, "A film", settings=settings)
    (section,) = (section for section in look.sections if section.id == "next-token")
    assert "example" not in section.lead
    (table,) = section.tables
    found = lm.next_token_distribution("A film", **settings)
    assert [row[0] for row in table.rows] == ["softmax of the logits", "temperature: 0.7", "top_k: 9", "top_p: 0.6"]
    assert [row[1] for row in table.rows] == [f"{stage.left:,}" for stage in found.stages]
    assert table.rows[2][2] == f"{lm.config.vocab_size - 9:,}"
    crosses = [row for row in rows_of(look.pictures["next-token"].chart.to_dict(), "cut") if row["cut"]]
    assert any("cut by top_k 9" in row["text"] for row in crosses)


def test_an_example_of_sampling_is_called_one(folder_of: Callable[[str], Path]) -> None:
    section = look_at(folder_of, "LlamaForCausalLM").sections[-1]
    assert "as an example" in section.lead
    assert "top_k: 20" in section.lead


def test_without_a_mask_there_is_no_word_to_guess(folder_of: Callable[[str], Path]) -> None:
    look = inspect(germinal.load(folder_of("BertForMaskedLM")), "A film that is warm.")
    assert [section.id for section in look.sections][-1] == "layers"


def test_words_are_compared_as_they_stand_in_a_text(folder_of: Callable[[str], Path]) -> None:
    lm = germinal.load(folder_of("LlamaForCausalLM"))
    look = inspect(lm, "A film", words=["warm", "funny", "unheard"])
    (section,) = (section for section in look.sections if section.id == "embeddings")
    assert "unheard (" in section.lead
    rows = rows_of(look.pictures["angles"].chart.to_dict(), "one")
    table = lm.network.embed_tokens.weight
    first, second = (table[lm.tokenizer.encode(f" {word}")[-1]] for word in ("warm", "funny"))
    if len(lm.tokenizer.encode(" warm")) == len(lm.tokenizer.encode(" funny")) == 1:
        cosine = torch.nn.functional.cosine_similarity(first, second, dim=0)
        (row,) = (row for row in rows if (row["one"], row["other"]) == ("warm", "funny"))
        assert row["shown"] == f"{torch.rad2deg(torch.arccos(cosine)):.0f}"


def test_what_cannot_be_is_refused(folder_of: Callable[[str], Path]) -> None:
    lm = germinal.load(folder_of("LlamaForCausalLM"))
    with pytest.raises(SettingError, match="one stack"):
        inspect(lm, "A film", target="that")
    with pytest.raises(SettingError, match="two or more"):
        inspect(lm, "A film", words=["warm"])
    with pytest.raises(SettingError, match="no token"):
        inspect(lm, "A film", words=["warm", ""])
    with pytest.raises(SettingError, match="no effect"):
        inspect(lm, "A film", settings={"top_p": 0.5})
    with pytest.raises(ContextWindowError, match="256"):
        inspect(lm, "warm and funny " * 200)


def test_white_space_and_halves_of_characters_can_be_seen(folder_of: Callable[[str], Path]) -> None:
    tokenizer = germinal.load(folder_of("LlamaForCausalLM")).tokenizer
    shown = spelt(tokenizer, tokenizer.encode("a b\n\t🎬", add_special_tokens=False))
    assert "↵" in "".join(shown)
    assert "→" in "".join(shown)
    assert "·b" in "".join(shown)
    assert all(text.strip() == text and text for text in shown)
    assert spelt(tokenizer, [tokenizer.vocab_size + 3]) == [f"#{tokenizer.vocab_size + 3}"]


def test_dark_pictures_have_no_light_colour(folder_of: Callable[[str], Path]) -> None:
    from germinal.figures.theme import recoloured

    for picture in look_at(folder_of, "LlamaForCausalLM").pictures.values():
        dark = json.dumps(recoloured(picture.chart.to_dict(), figures.DARK))
        assert not any(f'"{colour}"' in dark for colour in figures.LIGHT.roles().values()), picture.name


# The command


def test_the_command_writes_the_page(germinal_command: Callable[..., int], llama_folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "look.html"
    options = ("--temperature", "0.9", "--top-k", "7", "--word", "warm", "--word", "funny")
    assert germinal_command("inspect", llama_folder, "A film", "-o", page, "--pictures", tmp_path, *options) == 0
    assert "top_k: 7" in page.read_text(encoding="utf-8")
    assert (tmp_path / "attention-decoder.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "code"),
    [(("--top-k", "7"), 12), (("--target", "that"), 12), (("--system", "x"), 12), (("--max-new-tokens", "3"), 2)],
)
def test_the_command_refuses(
    germinal_command: Callable[..., int], llama_folder: Path, tmp_path: Path, options: tuple[str, ...], code: int
) -> None:
    page = tmp_path / "look.html"
    assert germinal_command("inspect", llama_folder, "A film", "-o", page, *options) == code
    assert not page.exists()


@pytest.fixture
def germinal_command() -> Callable[..., int]:
    from germinal.cli.main import main

    def run(*arguments: Any) -> int:
        with pytest.raises(SystemExit) as exit:
            main([str(argument) for argument in arguments])
        return exit.value.code if isinstance(exit.value.code, int) else 0

    return run
