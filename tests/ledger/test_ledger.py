"""The ledger by itself: migrations, content addressing, what a killed writer leaves, errors."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from germinal.errors import LedgerError, StorageError
from germinal.ledger import Environment, Figure, Ledger, StepRecord
from germinal.ledger.records import Prediction, PredictionLink
from germinal.ledger.tables import CANDIDATE, Base

HERE = Environment("0.1", "3.11", "test", "cpu: test, 1 core", None, False, {"torch": "2"})


def step(key: str = "a" * 64, **changes: object) -> StepRecord:
    record = StepRecord(
        key=key,
        recipe_key="r" * 64,
        kind="predict",
        name="predict on dev",
        status="running",
        parts={"kind": "predict"},
        recipe_parts={"kind": "predict"},
        outputs={},
        values={},
        artifact=None,
        seconds=0.0,
        peak_memory_bytes=None,
        memory_note="",
        environment=HERE,
        started_at=datetime.now(UTC),
        finished_at=None,
        error=None,
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def finish(ledger: Ledger, key: str, values: dict[str, object] | None = None) -> StepRecord:
    return ledger.finish_step(
        key, outputs={"out": "d"}, values=values or {}, seconds=2.0, peak_memory_bytes=5, memory_note=""
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "deep" / "ledger.sqlite")


def test_migrations_make_exactly_the_tables_of_the_models(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert differences == []


def test_a_ledger_is_in_wal_mode_and_opens_again(ledger: Ledger, tmp_path: Path) -> None:
    run = ledger.begin_run({"seed": 1}, ["seed=1"], 5, HERE)
    ledger.close()
    with sqlite3.connect(tmp_path / "deep" / "ledger.sqlite") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    again = Ledger.open(tmp_path / "deep" / "ledger.sqlite").runs()
    assert [(record.id, record.config, record.limit, record.overrides) for record in again] == [
        (run, {"seed": 1}, 5, ["seed=1"])
    ]
    assert again[0].started_at.tzinfo is not None


def test_a_newer_ledger_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    ledger.close()
    with pytest.raises(LedgerError, match="newer version of germinal"):
        Ledger.open(tmp_path / "deep" / "ledger.sqlite")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("once upon a time " * 100)
    with pytest.raises(LedgerError, match="is not a ledger"):
        Ledger.open(tmp_path / "ledger.sqlite")


def test_two_processes_that_open_a_new_ledger_migrate_it_once(tmp_path: Path) -> None:
    errors: list[BaseException] = []
    barrier = threading.Barrier(6)

    def open_one() -> None:
        barrier.wait()
        try:
            Ledger.open(tmp_path / "ledger.sqlite").close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_new_ledger_waits_for_who_is_writing_to_its_file(tmp_path: Path) -> None:
    writer = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, writer.execute, ["COMMIT"]).start()
    assert Ledger.open(tmp_path / "ledger.sqlite").runs() == []


def test_postgresql_can_hold_the_same_tables() -> None:
    for table in Base.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]


def test_other_databases_are_refused_by_name(ledger: Ledger) -> None:
    from germinal.ledger.database import insert_new

    class Other:
        class dialect:  # noqa: N801
            name = "oracle"

    with pytest.raises(LedgerError, match="oracle"):
        insert_new(Other, Base.metadata.tables["examples"], [{"row_id": "x"}])  # type: ignore[arg-type]


def test_a_prediction_is_stored_once_and_the_first_stays(ledger: Ledger) -> None:
    run = ledger.begin_run({}, [], None, HERE)
    ledger.store_predictions([Prediction("k1", "score", {"v": 0.1 + 0.2}, 1.0, None)], run)
    ledger.store_predictions(
        [Prediction("k1", "score", {"v": 9}, 1.0, None), Prediction("k2", "score", {"v": 2}, 0.5, 7)], run
    )
    found = ledger.predictions(["k1", "k2", "k3"])
    assert {key: row.output for key, row in found.items()} == {"k1": {"v": 0.1 + 0.2}, "k2": {"v": 2}}
    assert ledger.count("predictions") == 2


def test_many_keys_are_looked_up(ledger: Ledger) -> None:
    run = ledger.begin_run({}, [], None, HERE)
    keys = [f"{number:064d}" for number in range(1500)]
    ledger.store_predictions([Prediction(key, "score", {}, 0.0, None) for key in keys], run)
    assert set(ledger.predictions(keys)) == set(keys)


def test_a_killed_step_goes_on_with_its_seconds_and_a_failed_one_is_not_done(ledger: Ledger) -> None:
    run = ledger.begin_run({}, [], None, HERE)
    key = "a" * 64
    assert ledger.begin_step(step(key), run) == 0.0
    ledger.touch_step(key, 3.5)
    assert ledger.step(key).status == "running"
    assert ledger.begin_step(step(key), run) == 3.5
    ledger.fail_step(key, "no")
    assert (ledger.step(key).status, ledger.step(key).error) == ("failed", "no")
    ledger.begin_step(step(key), run)
    done = finish(ledger, key, {"figure": 1})
    assert (done.status, done.error, done.seconds, done.values) == ("done", None, 2.0, {"figure": 1})
    assert ledger.step(key) == done


def test_a_run_that_never_ended_is_called_interrupted(ledger: Ledger) -> None:
    ledger.begin_run({}, [], None, HERE)
    second = ledger.begin_run({}, [], None, HERE)
    ledger.end_run(second, "finished", {})
    assert [run.status for run in ledger.runs()] == ["finished", "interrupted"]


def test_no_finished_run_and_unknown_names_are_clear_errors(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no run is finished"):
        ledger.results()
    run = ledger.begin_run({}, [], None, HERE)
    with pytest.raises(LedgerError, match="no run 99"):
        ledger.results(99)
    ledger.record_trials(run, [trial("majority")])
    ledger.end_run(run, "finished", {})
    with pytest.raises(LedgerError, match="Did you mean 'majority'"):
        ledger.answers("majorty")
    with pytest.raises(LedgerError, match="Only the winner"):
        ledger.answers("majority", split="test")
    with pytest.raises(LedgerError, match="no step"):
        ledger.step("f" * 64)


def trial(name: str, **changes: object) -> dict[str, object]:
    spec = {"kind": "baseline", "baseline": "majority"}
    return {
        "trial_id": name,
        "candidate_id": name,
        "position": 0,
        "replicate": 0,
        "spec": spec,
        "steps": {},
        "estimate": None,
        **changes,
    }


def test_a_whole_run_reads_back(ledger: Ledger) -> None:
    run = ledger.begin_run({"scope": {"metrics": ["accuracy"]}}, [], None, HERE)
    keys = {
        role: character * 64 for role, character in zip(("data", "predict", "measure", "choose"), "dpmc", strict=True)
    }
    for role, key in keys.items():
        ledger.begin_step(step(key, kind=role), run)
    splits = {name: {"rows": 1, "labels": {"pos": 1}} for name in ("train", "dev", "test")}
    finish(ledger, keys["data"], {"splits": splits})
    finish(ledger, keys["predict"], {"prompts": [_prompt()]})
    tokens = {"prompt_tokens": 3, "generated_tokens": 1, "scored_tokens": 0}
    spread = {"accuracy": {"low": 1.0, "high": 1.0, "deviation": 0.0, "n": 2}}
    values = {"replicates": [tokens], "parameters": 10, "tokens_per_example": 4.0, "work": 40.0, "spread": spread}
    finish(ledger, keys["measure"], values)
    comparison = {"first": 0, "second": 0, "metric": "accuracy", "difference": 0.0, "low": None, "high": None}
    comparison |= {
        "p_value": 1.0,
        "p_adjusted": 1.0,
        "test": "mcnemar_exact",
        "role": "best",
        "exploratory": True,
        "n": 1,
    }
    chosen = {"metric": "accuracy", "best": 0, "tied": [0], "winner": 0, "winner_replicate": 0, "reason": "alone"}
    finish(ledger, keys["choose"], {**chosen, "comparisons": [comparison]})
    ledger.store_examples([{"row_id": "row", "input": "good", "target": "pos", "group": None}])
    ledger.store_predictions([Prediction("g", "generate", {"text": " pos"}, 0.1, None)], run)
    ledger.link_predictions(keys["predict"], [PredictionLink("row", 0, "g", None)])
    answer = {"row_id": "row", "position": 0, "answer": "pos", "text": " pos", "probabilities": None, "error": None}
    for _ in range(2):  # as an interrupted attempt and the next one
        ledger.store_answers(keys["measure"], 0, [{**answer, "correct": True}])
        for replicate in (0, CANDIDATE):
            ledger.store_measurements(keys["measure"], replicate, {"accuracy": Figure(1.0, 0.5, 1.0, 1, "wilson")})
    roles = {"data": keys["data"], "predict/dev": keys["predict"], "measure/dev": keys["measure"]}
    ledger.record_trials(run, [trial("t/seed-0", candidate_id="t", steps=roles)])
    figure = {"value": 1.0, "low": 0.5, "high": 1.0, "n": 1, "method": "wilson", "level": 0.95}
    success = [{"metric": "accuracy", "threshold": 0.4, "verdict": "reached", "figure": figure}]
    outcome = {"choose": keys["choose"], "candidates": ["t"], "detectable_difference": 0.1, "success": success}
    ledger.end_run(run, "finished", {**outcome, "metrics": [{"name": "accuracy", "higher_is_better": True}]})
    ledger.look_at_test(run, "t/seed-0", keys["measure"])

    results = ledger.results()
    assert results.primary == "accuracy"
    assert results.choice is not None
    assert results.choice.winner_trial == "t/seed-0"
    assert results.candidate("t").figures["dev"]["accuracy"] == Figure(1.0, 0.5, 1.0, 1, "wilson")
    assert results.candidate("t").work == 40.0
    assert results.candidate("t").spread["accuracy"].n == 2
    assert results.trial("t/seed-0").cost.tokens == 4
    assert results.trial("t/seed-0").cost.by_step == {"predict": 2.0}
    assert results.comparisons[0].first == "t"
    assert results.success[0].verdict == "reached"
    assert (results.test_looks, results.splits["dev"].rows) == (1, 1)
    answers = ledger.answers("t/seed-0")
    assert [(item.input, item.target, item.correct, item.output) for item in answers] == [
        ("good", "pos", True, {"text": " pos"})
    ]
    assert ledger.prompts("t/seed-0")[0].tokens == 3
    assert ledger.history("t/seed-0") == []


def _prompt() -> dict[str, object]:
    return {"row_id": "row", "text": "good\nis:", "tokens": 3, "dropped_examples": 0, "truncated_tokens": 0}


def test_a_full_disk_is_an_error_of_ours_and_loses_nothing(ledger: Ledger, tmp_path: Path) -> None:
    run = ledger.begin_run({}, [], None, HERE)
    ledger.store_predictions([Prediction("k", "score", {"text": "kept"}, 0.0, None)], run)
    ledger.close()
    with ledger.engine.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))  # SQLite's own way to a full disk
        connection.commit()
        with pytest.raises(StorageError, match="disk is full"):
            connection.execute(
                text("INSERT INTO examples (row_id, input, target) VALUES ('x', :long, 'y')"), {"long": "z" * 1_000_000}
            )
    assert set(Ledger.open(tmp_path / "deep" / "ledger.sqlite").predictions(["k"])) == {"k"}


def test_a_url_is_taken_as_it_is(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'by-url.sqlite'}")
    assert ledger.runs() == []
    assert create_engine(f"sqlite:///{tmp_path / 'by-url.sqlite'}").connect() is not None
