"""A template can't stop the process: whatever would take long or much memory is stopped, and normal chats are not."""

from __future__ import annotations

import pytest

from germinal.errors import TemplateError
from germinal.text import template_work
from germinal.text.chat_template import ChatTemplate

CHAT = [{"role": "user", "content": "hi"}]

AT_ONCE = {
    "a repeated text": "{{ 'a' * 10**10 }}",
    "a repeated text, the other way round": "{{ 10**10 * 'a' }}",
    "a constant that jinja would work out while compiling": "{{ 'a'|center(10000000000) }}",
    "a repeated list": "{{ [1] * 10**10 }}",
    "a power": "{{ 9**99999999 }}",
    "bytes": "{{ 'a'.encode().ljust(10000000000) }}",
    "bytes of a number": "{{ (1).to_bytes(10000000000, 'big') }}",
    "padding": "{{ 'a'.rjust(10000000000) }}",
    "zeros": "{{ 'a'.zfill(10000000000) }}",
    "tabs": "{{ '\t'.expandtabs(tabsize=1000000000) }}",
    "indentation": "{{ 'a\nb'|indent(10000000000) }}",
    "a format": "{{ '{:>10000000000}'.format('a') }}",
    "a format with a computed width": "{{ '{:>{}}'.format('a', 10000000000) }}",
    "a format from a mapping": "{{ '{a:>{b}}'.format_map({'a': 1, 'b': 10000000000}) }}",
    "a printf format": "{{ '%.1000000000f' % 1.5 }}",
    "a printf format with a computed width": "{{ '%*d' % (10000000000, 1) }}",
    "a printf filter": "{{ '%10000000000d'|format(1) }}",
    "a translation": "{{ ('a' * 100000).translate({97: 'b' * 1000000}) }}",
    "a separator": "{{ ('x' * 1000000).join([''] * 100000) }}",
    "a replacement": "{{ ('x' * 100000).replace('', 'y' * 100000) }}",
    "batches": "{{ [1]|batch(10000000000, 'x')|list }}",
    "slices": "{{ [1]|slice(10000000000)|list }}",
    "JSON": "{{ [[1]]|tojson(indent=10000000000) }}",
    "digits": "{{ 1.5|round(10000000, 'ceil') }}",
    "sums of lists": "{{ ([[1]] * 10000)|sum(start=[]) }}",
    "tags": "{{ (('<>' * 500000)|safe).striptags() }}",
    "a long template": "x" * 10_000_000,
    "deep brackets": "{{ " + "[" * 20000 + "]" * 20000 + " }}",
    "deep loops": "{% for i in [1] %}" * 100 + "{% endfor %}" * 100,
    "many branches": "{% if 1 %}" + "{% elif 1 %}" * 4000 + "{% endif %}",
}

MANY = "{% for i in range(99999) %}"
GROWS = "{% set ns = namespace(x='aaaa') %}" + MANY + "{% set ns.x = "
NESTS = "{% set ns = namespace(x=('a',), y=('a',)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}"
NESTS += "{% set ns.y = (ns.y, ns.y) %}{% endfor %}"
IN_THE_END = {
    "nested loops": MANY * 3 + "{% endfor %}" * 3,
    "a loop whose condition never holds": MANY + "{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
    "a recursive loop": "{% for x in [60] recursive %}{{ loop([x - 1, x - 1]) if x }}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{% set x = f(n-1) %}{% set x = f(n-1) %}{% endif %}{% endmacro %}{{ f(60) }}",
    "a macro without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a block": "{% block f %}" + "x" * 50_000 + "{% endblock %}" + MANY + "{% set x = self.f() %}{% endfor %}",
    "a text that doubles": GROWS + "ns.x ~ ns.x %}{% endfor %}",
    "a sum that doubles": GROWS + "ns.x + ns.x %}{% endfor %}",
    "a format that doubles": GROWS + "'{0}{0}'.format(ns.x) %}{% endfor %}",
    "a join that doubles": GROWS + "[ns.x, ns.x]|join %}{% endfor %}",
    "a number that grows": GROWS + "(ns.x|int(3)) ** 2 %}{% endfor %}",
    "texts that are kept": GROWS + "[ns.x, 'a' * 100000] %}{% endfor %}",
    "a written nest": NESTS + "{{ ns.x }}",
    "a nest as JSON": NESTS + "{{ ns.x|tojson }}",
    "a compared nest": NESTS + "{{ ns.x == ns.y }}",
    "a nest as a key": NESTS + "{{ {ns.x: 1} }}",
    "a nest that is looked up": NESTS + "{{ {}[ns.x] }}",
    "a tower": "{% set ns = namespace(x=('a',)) %}" + MANY + "{% set ns.x = (ns.x,) %}{% endfor %}{{ {}[ns.x] }}",
    "searches": "{% set t = 'a' * 1000000 %}" + MANY + "{% set x = 'ab' in t %}{% endfor %}",
    "slices": "{% set t = 'a' * 1000000 %}" + MANY + "{% set x = t[1:] %}{% endfor %}",
    "tests": "{% set t = 'A' * 1000000 %}" + MANY + "{% set x = t is upper %}{% endfor %}",
    "lists": MANY + "{% set x = range(99999)|list %}{% endfor %}",
    "lazy lists": MANY + "{% set x = range(99999)|map('string')|select('eq', 1)|first %}{% endfor %}",
    "long text in a loop": MANY + "x" * 50_000 + "{% endfor %}",
    "cycles": "{% set c = cycler(1, 2) %}" + MANY + MANY + "{% set x = c.next() %}{% endfor %}{% endfor %}",
}


@pytest.mark.parametrize("what", AT_ONCE)
def test_what_would_take_too_much_is_refused_before_it_is_done(what: str) -> None:
    with pytest.raises(TemplateError):
        ChatTemplate(AT_ONCE[what]).render(CHAT)


@pytest.mark.parametrize("what", IN_THE_END)
def test_what_goes_on_is_stopped(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_work, "MIN_UNITS", 50_000)
    with pytest.raises(TemplateError, match=r"was stopped|recursion"):
        ChatTemplate(IN_THE_END[what]).render(CHAT)


def test_each_rendering_has_its_own_work_and_a_long_chat_has_more() -> None:
    template = ChatTemplate("{% for m in messages %}{% for n in messages %}{% endfor %}{{ m.content }}{% endfor %}")
    for _ in range(3):
        assert len(template.render([{"role": "user", "content": "x" * 1000}] * 500)) == 500_000
    assert len(template.render([{"role": "user", "content": "x" * 10_000_000}])) == 10_000_000


def test_a_template_is_used_up_to_its_limit_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_work, "MIN_UNITS", 1000)
    template = ChatTemplate("{% for i in range(messages[0].n) %}{% endfor %}x")
    with pytest.raises(TemplateError, match="loops"):
        template.render([{"role": "user", "n": 90_000}])
    assert template.render([{"role": "user", "n": 10}]) == "x"
