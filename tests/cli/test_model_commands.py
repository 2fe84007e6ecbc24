"""The commands of a model by itself, on a tiny one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from germinal import load
from germinal.checkpoints.catalogue import ALIASES
from germinal.generation.config import GenerationConfig

Germinal = Callable[..., Any]


def test_generate_streams_what_generate_gives(germinal: Germinal, llama_folder: Path) -> None:
    expected = load(llama_folder).generate("A film that is", max_new_tokens=12).text
    done = germinal("generate", llama_folder, "A film that is", "--max-new-tokens", 12)
    assert (done.code, done.out) == (0, expected + "\n")


def test_generate_reads_standard_input_and_takes_the_chat_template(germinal: Germinal, llama_folder: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "warm and\nfunny"}]
    expected = load(llama_folder).generate(messages, max_new_tokens=8).text
    options = ("--chat", "--system", "Be brief.", "--max-new-tokens", 8)
    assert germinal("generate", llama_folder, "-", *options, stdin="warm and\nfunny").out == expected + "\n"


def test_generate_samples_n_answers_with_log_probabilities_as_json(germinal: Germinal, llama_folder: Path) -> None:
    settings = {"temperature": 0.9, "top_k": 20, "seed": 5, "n": 2, "logprobs": 2, "max_new_tokens": 6}
    expected = load(llama_folder).generate("A film", **settings)
    options = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
    answers = json.loads(germinal("generate", llama_folder, "A film", *options, "--json").out)
    assert [answer["token_ids"] for answer in answers] == [list(each.token_ids) for each in expected]
    assert len(answers[0]["logprobs"][0]["top_logprobs"]) == 2
    shown = germinal("generate", llama_folder, "A film", *options).out
    assert "1 of 2" in shown
    assert "log-probability" in shown


def test_stop_logit_bias_and_eos_reach_the_model(germinal: Germinal, llama_folder: Path) -> None:
    lm = load(llama_folder)
    plain = lm.generate("A film", max_new_tokens=8)
    first = plain.token_ids[0]
    banned = germinal(
        "generate", llama_folder, "A film", "--logit-bias", f"{first}=-100", "--max-new-tokens", 8, "--json"
    )
    assert json.loads(banned.out)[0]["token_ids"][0] != first
    ended = germinal("generate", llama_folder, "A film", "--eos-ids", first, "--json")
    assert json.loads(ended.out)[0]["token_ids"] == []
    stop = plain.text[2:4]
    stopped = germinal("generate", llama_folder, "A film", "--stop", stop, "--max-new-tokens", 8)
    assert stopped.out == plain.text[: plain.text.index(stop)] + "\n"


@pytest.mark.parametrize("command", ["generate", "chat"])
def test_every_generation_setting_is_an_option(germinal: Germinal, command: str) -> None:
    shown = germinal(command, "--help").out
    left_out = {"n", "logprobs"} if command == "chat" else set()
    for setting in GenerationConfig.settings():
        assert (f"--{setting.name.replace('_', '-')} " in shown) == (setting.name not in left_out)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--top-p", "0.9"), 12, "no effect at temperature 0"),
        (("--max-new-tokens", "0"), 12, "max_new_tokens"),
        (("--logit-bias", "five"), 12, "ID=BIAS"),
        (("--length-penalty", "2"), 12, "num_beams above 1"),
        (("--num-beams", "4", "--temperature", "0.7"), 13, "beam search"),
        (("--system", "Be brief."), 12, "--chat"),
        (("--precision", "float23"), 12, "Did you mean 'float32'?"),
        (("--temperature", "warm"), 2, "--temperature"),
        (("--tempo", "1"), 2, "No such option"),
    ],
)
def test_a_bad_setting_is_refused_by_name(
    germinal: Germinal, llama_folder: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    done = germinal("generate", llama_folder, "A film that is warm and true", *options)
    assert done.code == code
    assert said in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_a_prompt_over_the_window_is_refused(germinal: Germinal, llama_folder: Path) -> None:
    done = germinal("generate", llama_folder, "-", stdin="warm and funny " * 200)
    assert (done.code, done.out) == (11, "")
    assert "the context window of 256" in done.err


def test_chat_remembers_until_it_is_told_to_forget(germinal: Germinal, llama_folder: Path) -> None:
    lm = load(llama_folder)

    def answer(*turns: str) -> str:
        roles = ("user", "assistant")
        messages = [{"role": roles[place % 2], "content": turn} for place, turn in enumerate(turns)]
        return str(lm.generate(messages, max_new_tokens=5).text)

    first = answer("warm")
    expected = [first, answer("warm", first, "cold"), answer("cold")]
    done = germinal(
        "chat", llama_folder, "--max-new-tokens", 5, stdin="warm\ncold\n/reset\n/what\ncold\n/quit\nfunny\n"
    )
    assert done.code == 0
    assert done.out == "".join(f"{text}\n" for text in expected)
    assert "no command '/what'" in done.err


def test_chat_tells_what_no_longer_fits(germinal: Germinal, llama_folder: Path) -> None:
    long = "warm and funny and true " * 8
    done = germinal("chat", llama_folder, "--max-new-tokens", 60, stdin=f"{long}\n{long}\n{long * 9}\n")
    assert done.code == 0
    assert "oldest messages no longer fit" in done.err
    assert "the context window holds 256" in done.err


def test_tokenize_shows_pieces_ids_and_the_round_trip(germinal: Germinal, llama_folder: Path) -> None:
    tokenizer = load(llama_folder).tokenizer
    text = "a warm 🎬 film"
    ids = tokenizer.encode(text)
    found = json.loads(germinal("tokenize", llama_folder, text, "--json").out)
    ends = found.pop("answer_ends")
    assert found == {"ids": ids, "pieces": tokenizer.pieces(ids), "decoded": text, "round_trip": True}
    sources = ["generation_config.json", "the tokenizer", "the chat template"]
    assert ends == [{"id": 2, "sources": sources, "ends": "every answer"}]
    shown = germinal("tokenize", llama_folder, "-", stdin=text).out
    assert all(str(id) in shown for id in ids)
    assert "the tokens give the text back" in shown


def test_tokenize_tells_all_ends_and_which_of_them_count(
    germinal: Germinal, llama_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 9999]}')
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}")
    shown = germinal("tokenize", folder, "warm").out
    assert "Token 0 (<|endoftext|>) ends answers in a chat: the chat template." in shown
    assert "Token 2 (<|im_end|>) ends no answer: the tokenizer." in shown
    assert f"Token 5 ({load(folder).tokenizer.pieces([5])[0]}) ends every answer: generation_config.json." in shown
    assert "Token 9999 (not in the vocabulary) ends no answer: generation_config.json." in shown
    assert load(folder).writer.ends(chat=True) == (0, 5)


def test_models_lists_what_one_needs_to_choose(germinal: Germinal) -> None:
    listed = {model["name"]: model for model in json.loads(germinal("models", "--json").out)}
    assert listed.keys() == ALIASES.keys()
    small = listed["smollm2-135m-instruct"]
    assert (small["size_class"], small["stacks"], small["licence"]) == ("sub-billion", "decoder", "apache-2.0")
    assert small["weight_bytes"] == {"float32": 538_060_032, "bfloat16": 269_030_016}
    shown = germinal("models").out
    for expected in ("smollm2-135m-instruct", "Q4_1", "538 MB", "8,192", "1-30 B", "100 B+"):
        assert expected in shown


def test_convert_writes_a_gguf_file_that_other_commands_read(
    germinal: Germinal, llama_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "converted.gguf"
    done = germinal("convert", llama_folder, "-o", output)
    assert (done.code, done.out.split(":")[0]) == (0, f"{llama_folder.name}, float32")
    options = ("A film that is", "--max-new-tokens", 8)
    assert germinal("generate", output, *options).out == germinal("generate", llama_folder, *options).out
    assert "--force" in germinal("convert", llama_folder, "-o", output).err
    whole = output.stat().st_size
    done = germinal("convert", llama_folder, "-o", output, "--force", "--precision", "float16")
    assert (done.code, done.out.split(":")[0]) == (0, f"{llama_folder.name}, float16")
    assert output.stat().st_size < 0.75 * whole
    refused = germinal("convert", llama_folder, "-o", tmp_path / "folder", "--precision", "float16")
    assert refused.code == 12
    assert not (tmp_path / "folder").exists()


def test_convert_writes_a_folder_that_transformers_reads(
    germinal: Germinal, llama_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    output = tmp_path / "converted"
    assert germinal("convert", llama_folder, "-o", output).code == 0
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        logits = [AutoModelForCausalLM.from_pretrained(folder)(ids).logits for folder in (llama_folder, output)]
    torch.testing.assert_close(*logits)
    again = germinal("convert", llama_folder, "-o", output)
    assert (again.code, "exists already" in again.err) == (14, True)
    assert germinal("convert", llama_folder, "-o", output, "--force").code == 0


def test_tune_writes_an_adapter_that_generate_takes(
    germinal: Germinal, llama_folder: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    data = ("--data", reviews_csv, "--input", "text", "--target", "label")
    prompt = ("--instruction", "Classify this review:", "--answer", "Sentiment:")
    training = ("--learning-rate", "0.05", "--epochs", 8, "--rank", 4, "--target-modules", "all-linear")
    output = tmp_path / "tuned"
    done = germinal("tune", llama_folder, *data, *prompt, *training, "-o", output)
    assert done.code == 0, done.err
    assert json.loads((output / "adapter" / "adapter_config.json").read_text())["peft_type"] == "LORA"
    losses = [json.loads(line)["loss"] for line in (output / "history.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] / 2
    question = "Classify this review:\nA warm film 99\nSentiment:"
    settings = ("--adapter", output / "adapter", "--max-new-tokens", 8)
    expected = load(llama_folder, adapter=output / "adapter").generate(question, max_new_tokens=8).text
    assert expected != load(llama_folder).generate(question, max_new_tokens=8).text
    assert germinal("generate", llama_folder, question, *settings).out == f"{expected}\n"


def test_an_encoder_decoder_is_tuned_and_answers_by_the_same_commands(
    germinal: Germinal, encoder_decoder_folder: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    data = ("--data", reviews_csv, "--input", "text", "--target", "label")
    training = ("--learning-rate", "0.01", "--epochs", 6, "--rank", 4, "--target-modules", "all-linear")
    output = tmp_path / "tuned"
    done = germinal("tune", encoder_decoder_folder, *data, "--instruction", "Classify:", *training, "-o", output)
    assert done.code == 0, done.err
    assert json.loads((output / "adapter" / "adapter_config.json").read_text())["task_type"] == "SEQ_2_SEQ_LM"
    losses = [json.loads(line)["loss"] for line in (output / "history.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] / 2
    question = "Classify:\nA warm film 99"
    expected = load(encoder_decoder_folder, adapter=output / "adapter").generate(question, max_new_tokens=8).text
    found = germinal(
        "generate", encoder_decoder_folder, question, "--adapter", output / "adapter", "--max-new-tokens", 8
    )
    assert (found.code, found.out) == (0, f"{expected}\n")
    assert expected != load(encoder_decoder_folder).generate(question, max_new_tokens=8).text


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--input", "text", "--target", "lable"), 4, "Did you mean 'label'?"),
        (("--input", "text", "--target", "label", "--rank", "0"), 12, "rank"),
        (("--input", "text", "--target", "label", "--target-modules", "w_proj"), 12, "w_proj"),
        (("--input", "text", "--target", "label", "--layers", "1,two"), 2, "two"),
    ],
)
def test_a_bad_tuning_is_refused_and_leaves_nothing(
    germinal: Germinal,
    llama_folder: Path,
    reviews_csv: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    output = tmp_path / "tuned"
    done = germinal("tune", llama_folder, "--data", reviews_csv, *options, "-o", output)
    assert done.code == code
    assert said in done.err
    assert not (output / "adapter").exists()
