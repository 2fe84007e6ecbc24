"""Chat templates: the text that transformers renders, and nothing that reaches out of the sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from germinal.errors import TemplateError
from germinal.text.chat_template import ChatTemplate

CHATML = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

# Everything that published templates lean on: block trimming, loop controls, namespaces, tojson, the generation tag.
RICH = """{{ bos_token }}
{%- set ns = namespace(count=0, system='') %}
    {% if tools %}
Tools: {{ tools | tojson(indent=2) }} {{ tools[0] | tojson }}
    {% endif %}
    {% for document in documents or [] %}
[{{ loop.index0 }}] {{ document['title'] }}: {{ document.text | trim | upper }}
    {% endfor %}
{% for message in messages %}
    {%- if message.role == 'system' %}{% set ns.system = message.content %}{% continue %}{% endif %}
    {%- if message.role == 'stop' %}{% break %}{% endif %}
    {% set ns.count = ns.count + 1 %}
    {%- if message.role == 'assistant' %}
    {% generation %}{{ message.content + eos_token }}{% endgeneration %}
    {% else %}
<{{ message['role'] }}{% if message.name is defined %} {{ message.name }}{% endif %}>{{ message['content'] }}
    {% endif %}
{% endfor %}
{{ ns.count }}{{ ns.system }}{{ dict(a=1)['a'] }}{{ mood | default('calm') }}
{% if add_generation_prompt %}
<assistant>
{% endif %}"""

CONTENT = st.text(st.sampled_from("ab <>&'\"\\{}%é日🎬\n "), max_size=20)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "stop"]), "content": CONTENT},
    optional={"name": st.one_of(st.none(), st.text("xyz", max_size=3))},
)


@pytest.fixture(scope="module")
def peer(llama_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(llama_folder)


@given(
    messages=st.lists(MESSAGE, min_size=1, max_size=5),
    prompt=st.booleans(),
    tools=st.one_of(
        st.none(), st.just([{"name": "f", "description": "é <&>", "parameters": {"b": 1, "a": [None, 2.5]}}])
    ),
    documents=st.one_of(st.none(), st.just([{"title": "T", "text": " x\n"}])),
    mood=st.one_of(st.none(), CONTENT),
)
@pytest.mark.parametrize("source", [CHATML, RICH], ids=["chatml", "rich"])
@settings(max_examples=120, deadline=None)
def test_text_is_transformers(
    peer: Any, source: str, messages: list[Any], prompt: bool, tools: Any, documents: Any, mood: str | None
) -> None:
    extra = {} if mood is None else {"mood": mood}
    expected = peer.apply_chat_template(
        messages,
        chat_template=source,
        add_generation_prompt=prompt,
        tools=tools,
        documents=documents,
        tokenize=False,
        **extra,
    )
    template = ChatTemplate(source, peer.special_tokens_map)
    assert template.render(messages, prompt, tools, documents, **extra) == expected


def test_strftime_now_is_today(peer: Any) -> None:
    source = "{{ strftime_now('%Y-%m') }}{{ messages[0].content }}"
    messages = [{"role": "user", "content": "x"}]
    assert ChatTemplate(source).render(messages) == peer.apply_chat_template(
        messages, chat_template=source, tokenize=False
    )


ESCAPES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update(role='x') }}",
    "{{ cycler.__init__.__globals__['os'].popen('id').read() }}",
    "{{ raise_exception.__globals__ }}",
    "{{ (namespace(a=1)).__class__ }}",
    "{% set ns = namespace(_x=1) %}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ dict.__class__ }}",
    "{% include '/etc/passwd' %}",
    "{{ self._TemplateReference__context }}",
    "{{ range(10000000) | list }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_reaching_out_is_an_error(source: str) -> None:
    with pytest.raises(TemplateError):
        ChatTemplate(source).render([{"role": "user", "content": "x"}])


def test_objects_do_not_bring_their_methods_along() -> None:
    class Text(str):
        def secret(self) -> str:
            return "secret"

    messages = [{"role": "user", "content": Text("hi")}]
    with pytest.raises(TemplateError):
        ChatTemplate("{{ messages[0].content.secret() }}").render(messages)
    with pytest.raises(TemplateError, match=r"not (Posix|Windows)Path"):
        ChatTemplate("x").render([{"role": "user", "content": Path("x")}])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for %}", "malformed at line 1"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0].content + 1 }}", "failed"),
        ("{{ undefined.attribute }}", "undefined"),
    ],
)
def test_what_a_template_refuses_is_said(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message) as caught:
        ChatTemplate(source, model="some-model").render([{"role": "user", "content": "x"}])
    assert caught.value.where == "some-model"


def test_no_template_is_an_error_and_none_is_guessed() -> None:
    with pytest.raises(TemplateError, match="no chat template, and germinal does not guess"):
        ChatTemplate(None).render([{"role": "user", "content": "x"}])


def test_an_empty_chat_is_refused() -> None:
    with pytest.raises(TemplateError, match="at least one message"):
        ChatTemplate("x").render([])
