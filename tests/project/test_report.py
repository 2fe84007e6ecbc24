"""The report stands alone, leaves nothing out, and shows text from data and models as text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from filled_ledger import MODEL, NASTY, USE_CASE, Spec, fill

from germinal.errors import LedgerError
from germinal.ledger import Ledger
from germinal.project.board.report import report_html, write_report
from germinal.project.board.report_examples import visible

LOADING = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href", "formaction"}
WINNER = f"{MODEL}/lora-r8/zero-shot/likelihood"


class Page(HTMLParser):
    """The page as elements: attributes, text, and what stands inside styles and scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids |= {value for name, value in attrs if name == "id" and value}

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside == "style":
            self.styles.append(data)
        else:
            self.text += data


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return fill(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")


@pytest.fixture(scope="module")
def html(ledger: Ledger) -> str:
    return report_html(ledger)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_nothing_is_loaded_from_anywhere(html: str, page: Page) -> None:
    outside = [
        (tag, name, value)
        for tag, name, value in page.attributes
        if name.lower() in LOADING and not value.startswith("#")
    ]
    assert outside == []
    assert not {"link", "iframe", "object", "embed", "img", "base", "form"} & set(page.tags)
    for style in [*page.styles, *(value for _, name, value in page.attributes if name == "style")]:
        assert not re.search(r"url\(|@import|@font-face", style)
    code = next(script for script in page.scripts if "use strict" in script)
    assert not re.search(r"fetch|XMLHttpRequest|import|innerHTML|eval|https?:", code)
    # Addresses that do stand there are text of the data, never markup.
    for address in re.findall(r"https?://[^\s\"'<\\&]+", html):
        assert address.startswith("https://example.org/")


def test_text_of_the_data_is_never_markup(html: str, page: Page) -> None:
    assert "<script>alert" not in html
    assert "alert('x')" in page.text
    assert '<b>"bold"</b>' in page.text
    assert page.tags.count("script") == 3  # the examples of dev and test, and the code


def test_all_sections_are_there_and_reachable(page: Page) -> None:
    sections = {"verdict", "leaderboard", "certainty", "winner", "cost", "tuning", "examples", "prompts", "method"}
    assert sections <= page.ids
    links = {value.removeprefix("#") for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert sections - {"verdict"} <= links | {"verdict"}
    assert links <= page.ids


def test_verdict_comes_first(page: Page) -> None:
    assert USE_CASE in page.text
    verdict = (
        page.text.index("Reached: accuracy")
        if "Reached: accuracy" in page.text
        else page.text.index("on test; measured")
    )
    assert verdict < page.text.index("Every candidate on the same")
    assert "best baseline, tfidf" in page.text
    assert "Weights: smollm2-135m-instruct in float32 (from Q4_1)." in page.text
    assert "Over the limit of 300 ms for the time of one answer: 412 ms measured." in page.text


def test_every_candidate_figure_and_picture_is_there(html: str, page: Page) -> None:
    for label in ("lora-r8 zero-shot likelihood", "4-shot calibrated", "zero-shot generate", "tfidf", "majority"):
        assert label in page.text
    for title in (
        "How good, and how sure",
        "Spread over the choice of shots",
        "Confusion matrix, on test",
        "Can its probabilities be believed",
        "Quality against time",
        "Quality against memory",
        "Loss: tune lora-r8",
    ):
        assert f"<h3>{title}" in html
    assert page.tags.count("svg") == 7
    assert "shot seed 2: 0." in html  # one dot of the spread, in words


def test_confusion_counts_the_winners_answers(ledger: Ledger, html: str) -> None:
    answers = ledger.answers(WINNER, split="test")
    right = sum(answer.target == "pos" and answer.answer == "pos" for answer in answers)
    total = sum(answer.target == "pos" for answer in answers)
    assert f"{right} of {total} pos answered pos" in html


def test_examples_carry_every_trials_answers(ledger: Ledger, page: Page) -> None:
    tables = [json.loads(script) for script in page.scripts if script.startswith("{")]
    assert [len(table["trials"]) for table in tables] == [8, 3]
    assert "4-shot calibrated, shot seed 1" in page.text
    answers = [ledger.answers(trial.id) for trial in ledger.results().trials]
    stored = {tuple((answer.answer, int(answer.correct)) for answer in given) for given in answers}
    shown = {tuple((reply[0], reply[1]) for reply in trial["replies"]) for trial in tables[0]["trials"]}
    assert shown == stored
    generated = [reply[2] for trial in tables[0]["trials"] for reply in trial["replies"] if reply[0] is None]
    assert set(generated) == {" What a film!\nReally"}


def test_prompts_are_exactly_what_the_model_saw(ledger: Ledger, html: str) -> None:
    shown = [Page(block).text for block in re.findall(r'<pre class="prompt">(.*?)</pre>', html, re.DOTALL)]
    seen = {prompt.text for trial in ledger.results().trials for prompt in ledger.prompts(trial.id)}
    assert set(shown) == seen
    assert any(NASTY in text for text in shown)
    assert 'data-code="U+2028"' in html


@pytest.mark.parametrize("text", ["a  b", " a\n\tb ", "x\u00a0y\u200b", "\n\n", "", "plain", NASTY, "é\r\n  \u3000z"])
def test_visible_white_space_changes_nothing(text: str) -> None:
    pieces = list(visible(text))
    assert "".join(piece for _, piece in pieces) == text
    assert all(
        not re.search(r"[\n\t\r\u00a0\u200b\u2028\u3000]|  |^ | $", piece) for kind, piece in pieces if kind == "text"
    )


def test_report_is_written_whole_or_not_at_all(ledger: Ledger, tmp_path: Path) -> None:
    path = write_report(ledger, tmp_path / "report.html")
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_baselines_alone_make_a_report(tmp_path: Path) -> None:
    page = Page(report_html(fill(tmp_path / "ledger.sqlite", specs=(Spec("majority", (0.5,)), Spec("tfidf", (0.8,))))))
    assert "No language model was shown to be better" in page.text
    assert not {"tuning", "prompts"} & page.ids


def test_no_finished_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError):
        write_report(Ledger.open(tmp_path / "ledger.sqlite"), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
