"""Charts say what they were given, in words too, stay inside their frame, and follow the reader's theme."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from statsmodels.stats.proportion import proportion_confint

from germinal import figures
from germinal.errors import UnsupportedError
from germinal.figures import (
    DARK,
    LIGHT,
    Bin,
    Candidate,
    Estimate,
    Growth,
    Guess,
    LossPoint,
    Outcome,
    RankCurve,
    Replicate,
    RowValues,
    Token,
    Word,
)
from germinal.figures.labels import place
from germinal.figures.theme import recoloured

NASTY = '<b> & "quoted" · ü'

ESTIMATES = [
    Estimate("4-shot", "prompted", 0.86, 0.82, 0.89, marked=True),
    Estimate("lora", "tuned", 0.84, 0.80, 0.88),
    Estimate(NASTY, "baseline", 0.5, 0.44, 0.56),
]
OUTCOMES = [
    Outcome("majority", "baseline", 0.5, 0.45, 0.55, 0.0),
    Outcome("tfidf", "baseline", 0.73, 0.68, 0.78, 0.4),
    Outcome("dominated", "prompted", 0.6, 0.55, 0.65, 30),
    Outcome("4-shot", "prompted", 0.86, 0.82, 0.89, 31),
]


WORDS = [Word("warm", 1, 0.2), Word("funny", 0.9, 0.1), Word(NASTY, -1, 0.0)]
ANGLES = [[0.0, 40.5, 95.0], [40.5, 0.0, 88.0], [95.0, 88.0, 0.0]]
WEIGHTS = [[[[1.0, 0.0], [0.25, 0.75]], [[1.0, 0.0], [0.5, 0.5]]]]  # a layer of two heads


def charts() -> dict[str, Any]:
    return {
        "intervals": figures.intervals(ESTIMATES, metric="accuracy", criterion=0.8, reference=0.5),
        "spread": figures.spread([Replicate("4-shot", seed, 0.8 + seed / 50) for seed in range(3)], metric="accuracy"),
        "confusion": figures.confusion([("pos", "pos"), ("pos", "neg"), ("neg", None)], labels=["neg", "pos"]),
        "loss": figures.loss_curve([LossPoint(1, 0.9), LossPoint(2, 0.5), LossPoint(2, 0.6, True)], best_step=2),
        "tradeoff": figures.tradeoff(OUTCOMES, metric="accuracy", cost="time", unit="s"),
        "tokens": figures.tokens([Token("·film", 12), Token("日本↵", 9, ends_line=True), Token("<s>", 1, True)]),
        "words": figures.word_plane(WORDS, ANGLES, explained=(0.6, 0.3)),
        "angles": figures.word_angles([word.text for word in WORDS], ANGLES),
        "signed": figures.signed_map(
            [[0.5, -1.0], [0.0, 2.0]], columns=[3, 7], x_title="dimension", y_title="position", value_title="value"
        ),
        "attention": figures.attention(WEIGHTS, ["a", "b"], ["a", "b"]),
        "next-token": figures.next_token(
            [Candidate("·a", 1, 2.0, (0.8, 1.0)), Candidate("·b", 2, 0.5, (0.2, None))],
            steps=["probability", "top_k 1"],
        ),
        "vocabulary": figures.vocabulary_curve([RankCurve("probability", ((1, 0.8), (2, 0.2)))]),
        "guesses": figures.guesses([Guess(0, 0, "·a", 0.1), Guess(1, 0, "·b", 0.9)], ["x"]),
        "growth": figures.growth([Growth("·a", (0.1, 0.9)), Growth("·b", (0.2, 0.05))]),
        "rows": figures.row_values(
            [RowValues("lora", "tuned", [0.0, 0.2, 0.9]), RowValues(NASTY, "baseline", [0.1])], metric="rougeL"
        ),
        "lengths": figures.lengths([(12, 20), (0, 0), (40, 0)]),
        "reliability": figures.reliability([Bin(0.55, 0.5, 0.24, 0.76, 10), Bin(0.95, 0.9, 0.74, 0.97, 30)]),
    }


def titles(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")]


@pytest.mark.parametrize("name", charts())
def test_svg_stands_alone_and_follows_the_theme(name: str) -> None:
    svg = figures.to_svg(charts()[name], title=name)
    ElementTree.fromstring(svg)  # well-formed
    addresses = set(re.findall(r'(?:href|src|url)\s*[=(]\s*["\']?([^"\')]+)', svg))
    assert {address for address in addresses if not address.startswith("#")} == set()
    body = svg.split("</style>")[1]
    assert not re.search(r'(?:fill|stroke)="#', body), "a colour without a role does not follow the theme"
    assert "var(--g-" in body
    assert "prefers-color-scheme:dark" in svg


def test_inline_svg_leaves_theme_and_namespace_to_the_page() -> None:
    svg = figures.to_svg(charts()["spread"], title=NASTY, inline=True)
    assert "xmlns" not in svg
    assert "<style" not in svg
    assert "<title>&lt;b&gt; &amp;" in svg


def test_every_estimate_is_said_in_words() -> None:
    said = titles(figures.to_svg(charts()["intervals"], title="t"))
    assert "4-shot: 0.860, 95% interval 0.820 to 0.890" in said
    assert f"{NASTY}: 0.500, 95% interval 0.440 to 0.560" in said
    assert "criterion: 0.800" in said


def test_confusion_counts_and_keeps_missing_answers() -> None:
    pairs = [("pos", "pos")] * 3 + [("pos", "neg")] + [("neg", "neg")] * 2 + [("neg", None)] * 2
    said = titles(figures.to_svg(figures.confusion(pairs, labels=["neg", "pos"]), title="t"))
    assert "3 of 4 pos answered pos (75%)" in said
    assert "2 of 4 neg have no answer (50%)" in said
    without = titles(figures.to_svg(figures.confusion(pairs[:6], labels=["neg", "pos"]), title="t"))
    assert not any("no answer" in text for text in without)


def test_a_head_is_drawn_at_full_size_with_its_weights() -> None:
    said = titles(figures.to_svg(figures.attention(WEIGHTS, ["a", "b"], ["a", "b"], head=1), title="t"))
    assert "“b” attends to “a”: 50.0% (layer 0, head 1)" in said
    assert not any("25.0%" in text for text in said), "head 0 is not picked"


def test_angles_and_nearest_words_are_said() -> None:
    said = titles(figures.to_svg(charts()["words"], title="t"))
    assert "warm and funny: 40.5°" in said
    assert f"funny and {NASTY}: 88.0°" in said
    assert not any("95.0°" in text for text in said)
    assert "warm and funny: 40.5°" in titles(figures.to_svg(charts()["angles"], title="t"))


def test_a_signed_map_names_its_columns() -> None:
    said = titles(figures.to_svg(charts()["signed"], title="t"))
    assert "dimension 7, position 1: value 2.000" in said
    assert "dimension 3, position 0: value 0.500" in said


def test_the_rows_of_a_candidate_are_said_in_words() -> None:
    values = RowValues("lora", "tuned", [number / 20 for number in range(21)])
    said = titles(figures.to_svg(figures.row_values([values], metric="rougeL", digits=2), title="t"))
    assert "lora: median 0.50, half of the rows from 0.25 to 0.75, nine in ten from 0.05 to 0.95" in said


def test_lengths_are_said_in_words_and_may_all_be_nothing() -> None:
    said = titles(figures.to_svg(charts()["lengths"], title="t"))
    assert "reference of 12 characters, answer of 20" in said
    ElementTree.fromstring(figures.to_svg(figures.lengths([(0, 0)]), title="t"))


def test_a_cut_token_is_crossed_out() -> None:
    svg = figures.to_svg(charts()["next-token"], title="t")
    assert svg.count("✕") == 1
    assert "·b (id 2): cut by top_k 1" in titles(svg)


def test_tokens_wrap_and_keep_their_order() -> None:
    from germinal.figures.tokens import _laid_out

    rows, lines = _laid_out([Token("word", 5) for _ in range(40)], 400)
    assert lines > 3
    assert [row["id"] for row in rows] == ["5"] * 40
    assert all(0 <= row["left"] < row["right"] <= 400 for row in rows)
    assert rows == sorted(rows, key=lambda row: (row["top"], row["left"]))


def test_frontier_keeps_what_nothing_cheaper_beats() -> None:
    assert [outcome.label for outcome in figures.frontier(OUTCOMES)] == ["majority", "tfidf", "4-shot"]


def test_bins_count_every_answer_once() -> None:
    found = figures.bins([0.0, 0.55, 0.56, 0.99, 1.0], [False, True, False, True, True])
    assert sum(item.count for item in found) == 5
    assert [item.count for item in found] == [1, 2, 2]
    assert found[1].accuracy == 0.5
    assert (found[1].low, found[1].high) == pytest.approx(proportion_confint(1, 2, method="wilson"))
    assert found[1].confidence == pytest.approx(0.555)


def test_names_of_neighbours_do_not_overlap() -> None:
    points = [(100.0, 100.0), (108.0, 104.0), (300.0, 10.0), (395.0, 100.0)]
    names = ["first name", "second name", "at the top", "at the right edge"]
    places = place(list(zip(points, names, strict=True)), points, [points], 400, 200)
    boxes = [
        (left, middle - 6, left + 6.1 * len(name), middle + 6)
        for (left, middle), name in zip(places, names, strict=True)
    ]
    for one, other in combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    assert all(box[0] >= 0 and box[2] <= 412 and box[1] >= -4 and box[3] <= 204 for box in boxes)


def luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_colours_stand_off_their_background(palette: figures.Palette) -> None:
    roles = palette.roles()
    assert len(set(roles.values())) == len(roles), "a colour names its role"
    for role in ("ink", "muted", "prompted", "tuned", "baseline", "good", "bad"):
        dark, light = sorted((luminance(roles[role]), luminance(palette.background)))
        contrast = (light + 0.05) / (dark + 0.05)
        assert contrast >= (4.5 if role in ("ink", "muted") else 3.0), role


def test_dark_picture_has_no_light_colour_left() -> None:
    dark = str(recoloured(charts()["intervals"].to_dict(), DARK))
    assert not any(colour in dark for colour in LIGHT.roles().values())
    assert DARK.background in dark


def test_files(tmp_path: Path) -> None:
    chart = charts()["reliability"]
    figures.save(chart, tmp_path / "chart.png", title="t", palette=DARK)
    figures.save(chart, tmp_path / "chart.svg", title="t")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "chart.svg").read_text().startswith("<svg")
    with pytest.raises(UnsupportedError, match="gif"):
        figures.save(chart, tmp_path / "chart.gif", title="t")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chart.png", "chart.svg"]


def test_small_probabilities_are_percents_with_a_digit_that_counts() -> None:
    chart = figures.next_token(
        [figures.Candidate("a", place, 1.0, (p,)) for place, p in enumerate((0.5, 0.004, 0.0004, 3e-9, 0.0))],
        steps=["probability"],
    )
    shown = [row["shown"] for row in chart.to_dict()["hconcat"][1]["data"]["values"]]
    assert shown == ["50.0%", "0.4%", "0.04%", "<0.0001%", "<0.0001%"]


def test_a_colour_of_a_signed_map_may_be_full_before_the_largest_number() -> None:
    specification = json.dumps(
        figures.signed_map([[0.1, -8.0]], columns=[0, 1], x_title="x", y_title="y", value_title="v", full=0.2).to_dict()
    )
    assert "abs(datum.value) / 0.2" in specification
    assert "full at 0.2" in specification


def test_a_map_of_few_rows_and_many_columns_is_no_thin_strip() -> None:
    weights = [[[[1 / 35] * 35] * 5] * 6]
    words = [str(number) for number in range(35)]
    chart = figures.attention(weights, words[:5], words).to_dict()
    all_heads, one = chart["hconcat"]
    (picked,) = (each["select"] for each in chart["params"] if each["name"] == "picked")
    assert picked["on"] == "rect:click", "a click between the heads picks nothing, and the map would be empty"
    assert one["height"] > one["width"] / 4
    assert all_heads["height"] / 2 > all_heads["width"] / 3 / 4
    square = figures.attention([[[[1 / 35] * 35] * 35] * 6], words, words).to_dict()["hconcat"][1]
    assert square["width"] == square["height"]


def test_every_round_number_of_a_signed_map_has_its_label() -> None:
    """Vega drops labels that are given until there are no more of them than the axis counts."""
    columns = range(-63, 64)
    table = [[1.0] * len(columns)]
    chart = figures.signed_map(table, columns=columns, x_title="x", y_title="y", value_title="v", cell=(7, 20))
    drawn = figures.to_svg(chart, title="bias")
    assert all(f">{number}</text>" in drawn for number in range(-60, 61, 10))
