"""The tokens of an answer: transformers' ids of the chat with the answer less those of the chat without it."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import CORPUS
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from germinal.errors import TemplateError
from germinal.text.answer_tokens import answer_tokens, closing_id
from germinal.text.tokenizer import Tokenizer

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Classify this review: dull"},
    {"role": "assistant", "content": "Negative"},
    {"role": "user", "content": "Classify this review: warm"},
]
CONTROLS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|eot_id|>"]
CONTROLS += ["<|start_header_id|>", "<|end_header_id|>", "[INST]", "[/INST]", "<unk>"]

EACH = "{% for m in messages %}"
LLAMA_2 = (
    "{% if messages[0].role == 'system' %}{% set first = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set first = '' %}{% endif %}"
    + EACH
    + "{% if m.role == 'user' %}{{ '<s>[INST] ' + (first if loop.first else '') + m.content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' </s>' }}{% endif %}{% endfor %}"
)
TEMPLATES = {
    "llama-2": (LLAMA_2, "</s>"),
    "mistral": (
        "<s>" + EACH + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% elif m.role == 'assistant' %}"
        " {{ m.content }}</s>{% endif %}{% endfor %}",
        "</s>",
    ),
    "chatml": (
        EACH + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "<|im_end|>",
    ),
    "gemma, which trims": (
        "<s>{% set messages = messages[1:] %}"
        + EACH
        + "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content|trim }}"
        "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        "<end_of_turn>",
    ),
    "llama-3": (
        "<s>" + EACH + "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content|trim + '<|eot_id|>' }}"
        "{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        "<|eot_id|>",
    ),
    "zephyr, with spare line breaks": (
        EACH + "{{ '<|' + m.role + '|>\n' + m.content + '</s>' }}\n{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        "</s>",
    ),
    "qwen3, which splits and writes empty thoughts": (
        EACH + "{% set text = m.content.split('</think>')[-1].lstrip('\n') %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ text + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "<|im_end|>",
    ),
    "plain text, without a mark of the end": (
        EACH
        + "### {{ m.role }}:\n{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}### assistant:\n{% endif %}",
        None,
    ),
}
THINKS = (
    EACH
    + "{% if m.role == 'assistant' %}{{ 'A:' + m.content + '</s>' }}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}A:<think>{% endif %}"
)


@pytest.fixture(scope="module")
def peer() -> Any:
    bpe = Backend(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(CORPUS * 4, trainer)
    bpe.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CONTROLS])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")


def ours(peer: Any, source: str) -> Tokenizer:
    return Tokenizer(peer.backend_tokenizer, {"bos_token": "<s>", "eos_token": "</s>"}, source, name="toy")


def theirs(peer: Any, source: str, messages: list[dict[str, str]], answer: str) -> list[int]:
    """The ids of the chat with the answer less those without it."""
    settings = {"chat_template": source, "tokenize": True, "return_dict": False}
    without = peer.apply_chat_template(messages, add_generation_prompt=True, **settings)
    whole = peer.apply_chat_template([*messages, {"role": "assistant", "content": answer}], **settings)
    assert whole[: len(without)] == without
    return list(whole[len(without) :])


@pytest.mark.parametrize("messages", [CHAT, CHAT[:2]], ids=["with an example", "without"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_is_what_the_template_writes(peer: Any, name: str, messages: list[dict[str, str]]) -> None:
    source, mark = TEMPLATES[name]
    tokenizer = ours(peer, source)
    end = None if mark is None else peer.convert_tokens_to_ids(mark)
    assert closing_id(tokenizer) == end
    for answer in (
        "Positive",
        "Warm, funny and true.\nNobody should miss it.",
        "日本 🎬",
        " spaced ",
        "a</think>b",
        "1",
    ):
        if mark is None and answer.startswith(" "):
            continue  # a space merges with nothing here, but the probe's ending is the same
        expected = theirs(peer, source, messages, answer)
        found = answer_tokens(messages, answer, tokenizer)
        written = [*found.ids, *found.closing]
        assert written == expected[: len(written)]
        assert (found.closing[-1] == end) if mark else written == expected
        shown = peer.decode(found.ids)
        assert answer.split("</think>")[-1].strip() in shown
        assert mark is None or mark not in shown


def test_a_worked_example_has_the_tokens_of_an_answer(peer: Any) -> None:
    for name in ("llama-2", "mistral", "chatml", "gemma, which trims", "llama-3"):
        tokenizer = ours(peer, TEMPLATES[name][0])
        found = answer_tokens(CHAT[:2], "Negative", tokenizer)
        shown = tokenizer.encode(tokenizer.template.render(CHAT), add_special_tokens=False)
        asked = tokenizer.encode(tokenizer.template.render(CHAT[:2]), add_special_tokens=False)
        assert tuple(shown[len(asked) :][: len(found.ids)]) == found.ids


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (THINKS, "asks with .*<think>.* but answers after"),
        (EACH + "{{ m.content|tojson|length }}{% endfor %}", "writes the answer"),
        (EACH + "{{ m.role[0] }}{{ m.content }}{{ m.content|length }}{% endfor %}", "closes the answer"),
        (EACH + "{{ m.content }}\n{% endfor %}{% if not add_generation_prompt %}x{% endif %}", None),
    ],
    ids=["asks for thoughts", "hides the answer", "ends as the answer does", "closes the whole chat"],
)
def test_a_template_whose_renderings_do_not_fit_is_refused(peer: Any, source: str, message: str | None) -> None:
    tokenizer = ours(peer, source)
    if message is None:
        assert answer_tokens(CHAT[1:2], "Positive", tokenizer).ids
        return
    with pytest.raises(TemplateError, match=message) as caught:
        answer_tokens(CHAT[1:2], "Positively", tokenizer)
    assert "chat = false" in str(caught.value.hint)
    assert closing_id(tokenizer) is None


def test_an_answer_that_merges_with_the_prompt_is_refused(peer: Any) -> None:
    source = EACH + "{{ m.content }}{% endfor %}"
    chat = [{"role": "user", "content": "Senti"}]
    with pytest.raises(TemplateError, match="merge with the end of the prompt"):
        answer_tokens(chat, "ment", ours(peer, source))
