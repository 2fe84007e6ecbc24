"""What rows may be trusted: complete, identified by content, never twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from germinal.data.dataset import Dataset, inputs_of, make_dataset, read_dataset, read_pairs
from germinal.data.readers import Record, Table
from germinal.errors import DataError


def table(*rows: tuple[object, ...], columns: tuple[str, ...] = ("text", "label")) -> Table:
    records = [
        Record(dict(zip(columns, row, strict=True)), f"rows.csv:{line}") for line, row in enumerate(rows, start=2)
    ]
    return Table(Path("rows.csv"), columns, tuple(records))


def dataset(*rows: tuple[object, ...], **settings: object) -> Dataset:
    return make_dataset(table(*rows), input="text", target="label", **settings)  # type: ignore[arg-type]


def test_ids_are_made_of_content() -> None:
    first = dataset(("good", "pos"), ("bad", "neg"))
    turned = dataset(("bad", "neg"), ("good", "pos"))
    corrected = dataset(("good", "neg"), ("bad", "neg"))
    assert {row.id for row in first.rows} == {row.id for row in turned.rows}
    assert first.digest == turned.digest != corrected.digest
    assert first.rows[0].id != corrected.rows[0].id
    assert first.rows[0].key == corrected.rows[0].key
    assert [row.position for row in turned.rows] == [0, 1]


def test_the_input_stays_as_it_is_and_the_target_loses_outer_spaces() -> None:
    row = dataset(("  good \n", " pos ")).rows[0]
    assert (row.input, row.target) == ("  good \n", "pos")


def test_a_label_is_the_same_whatever_cannot_be_seen_of_it() -> None:
    rows = dataset(("a", "caf\u00e9"), ("b", "cafe\u0301 "), ("c", "\ufeffcaf\u00e9\u200b")).rows
    assert {row.target for row in rows} == {"caf\u00e9"}
    with pytest.raises(DataError, match="1 of 2 rows have no value in column 'label'"):
        dataset(("a", "pos"), ("b", "\u200b"))


def test_numbers_and_truth_values_become_text() -> None:
    rows = dataset((1, True), (2.0, False), (2.5, 0)).rows
    assert [(row.input, row.target) for row in rows] == [("1", "true"), ("2", "false"), ("2.5", "0")]


def test_duplicates_are_refused_by_default_with_both_lines() -> None:
    with pytest.raises(DataError, match=r"1 of 3 rows repeat.*rows\.csv:4 repeats rows\.csv:2") as error:
        dataset(("good", "pos"), ("bad", "neg"), (" good", "pos"))
    assert error.value.exit_code == 4


def test_duplicates_can_be_dropped_and_are_reported() -> None:
    found = dataset(("good", "pos"), ("bad", "neg"), ("good\r\n", "pos"), duplicates="drop")
    assert [row.input for row in found.rows] == ["good", "bad"]
    assert [(pair.dropped, pair.kept) for pair in found.dropped] == [("rows.csv:4", "rows.csv:2")]


def test_unicode_forms_of_one_text_are_one_text() -> None:
    with pytest.raises(DataError, match="repeat"):
        dataset(("caf\u00e9", "pos"), ("cafe\u0301", "pos"))


@pytest.mark.parametrize("policy", ["error", "drop"])
def test_one_input_with_two_targets_is_refused_under_every_policy(policy: str) -> None:
    with pytest.raises(DataError, match=r"1 inputs.*'good' is 'pos' at rows\.csv:2 and 'neg' at rows\.csv:3"):
        dataset(("good", "pos"), ("good", "neg"), duplicates=policy)


def test_of_several_texts_that_may_each_be_right_one_is_kept_where_that_is_asked_for() -> None:
    rows = [("good", "bon"), ("good", "bien"), ("bad", "mal")]
    with pytest.raises(DataError, match=r"1 inputs.*'bon' at rows\.csv:2.*duplicates = \"drop\" to keep one"):
        dataset(*rows, closed=False)
    found = dataset(*rows, closed=False, duplicates="drop")
    assert [row.target for row in found.rows] == ["bien", "mal"]
    assert [(pair.dropped, pair.kept) for pair in found.dropped] == [("rows.csv:2", "rows.csv:3")]
    assert dataset(*rows[::-1], closed=False, duplicates="drop").digest == found.digest


def test_long_lists_are_cut_and_counted() -> None:
    rows = [(f"text {number}", label) for number in range(8) for label in ("pos", "neg")]
    with pytest.raises(DataError, match=r"8 inputs.*and 3 more"):
        dataset(*rows)


@pytest.mark.parametrize("nothing", [None, "", " \n", float("nan")])
def test_missing_values_are_counted_and_named(nothing: object) -> None:
    with pytest.raises(DataError, match=r"2 of 3 rows have no value in column 'text': rows\.csv:3; rows\.csv:4"):
        dataset(("good", "pos"), (nothing, "neg"), (nothing, "neg"))
    with pytest.raises(DataError, match="1 of 2 rows have no value in column 'label'"):
        dataset(("good", "pos"), ("bad", nothing))


def test_nested_values_are_refused() -> None:
    with pytest.raises(DataError, match="holds a list") as error:
        dataset(("good", ["pos"]))
    assert error.value.where == "rows.csv:2"


def test_missing_columns_are_refused() -> None:
    with pytest.raises(DataError, match=r"no column 'labels'.*Did you mean 'label'"):
        make_dataset(table(("good", "pos")), input="text", target="labels")


def test_groups_are_read_and_the_kept_duplicate_does_not_depend_on_order() -> None:
    columns = ("text", "label", "film")
    rows = [("good", "pos", "b"), ("good", "pos", "a"), ("bad", "neg", "b")]
    for order in (rows, rows[::-1]):
        found = make_dataset(
            table(*order, columns=columns), input="text", target="label", group="film", duplicates="drop"
        )
        assert {(row.input, row.group) for row in found.rows} == {("good", "a"), ("bad", "b")}
    with pytest.raises(DataError, match="no value in column 'film'"):
        make_dataset(table(("good", "pos", ""), columns=columns), input="text", target="label", group="film")


def test_inputs_to_predict_keep_order_and_duplicates() -> None:
    assert inputs_of(table(("b", ""), ("a", ""), ("b", "")), "text") == ["b", "a", "b"]


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("label,text\npos,good\nneg,bad\n")
    renamed = tmp_path / "other.jsonl"
    renamed.write_text('{"text": "bad", "label": "neg"}\n{"label": "pos", "text": "good"}\n')
    assert (
        read_dataset(path, input="text", target="label").digest
        == read_dataset(renamed, input="text", target="label").digest
    )


def test_pairs_are_the_two_columns_duplicates_and_all(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("text,label,other\n a ,pos ,\nb,neg,x\na,pos,\na,neg,\n", encoding="utf-8")
    assert read_pairs(path, input="text", target="label") == [(" a ", "pos"), ("b", "neg"), ("a", "pos"), ("a", "neg")]
    with pytest.raises(DataError, match=r"3 of 4 rows have no value in column 'other': .*pairs.csv:2"):
        read_pairs(path, input="text", target="other")
    with pytest.raises(DataError, match="no column 'txt'"):
        read_pairs(path, input="txt", target="label")
