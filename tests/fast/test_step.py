"""How a step runs, whichever it is: what it records, and when an attempt is not made again."""

import subprocess
import sys

import pytest

from components.notify.core import outcome
from components.shared import records, step
from components.shared.problems import problem
from components.shared.step import run_as_step

RUN = "2f3c0d4e-0000-4000-8000-000000000001"


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder of a run's records, as in a pod."""
    monkeypatch.setenv("OSFT_STEP_RECORDS", str(tmp_path / "pipeline-runs"))
    monkeypatch.setenv("KFP_RUN_ID", RUN)
    return tmp_path / "pipeline-runs" / RUN


def fails() -> None:
    raise problem("the file is empty", where="qa.csv", rule="a header", remedy="look")


def breaks() -> None:
    raise RuntimeError("token hf_planted")


def fills_the_disk() -> None:
    """/dev/full refuses what is written to it as a full disk does."""
    with open("/dev/full", "w", encoding="utf-8") as file:
        file.write("x" * 100_000)


def notes() -> None:
    records.note(kept=3)


def test_step_that_ends_well_is_recorded_with_its_facts(kept):
    run_as_step("ingest_sdg", lambda: notes, {})

    found = records.read_records(kept)["ingest_sdg"]
    assert (found.state, found.attempt, found.facts, found.error) == ("finished", 1, {"kept": 3}, "")


@pytest.mark.parametrize(
    ("core_of_step", "error"),
    [
        (fails, "the file is empty"),
        (breaks, "a fault of the program: RuntimeError"),
        (fills_the_disk, "nothing more can be written: No space left on device"),
    ],
)
def test_step_that_fails_is_recorded_and_its_next_attempt_counted(kept, core_of_step, error):
    for attempt in (1, 2):
        with pytest.raises(SystemExit):
            run_as_step("ingest_sdg", lambda: core_of_step, {})
        found = records.read_records(kept)["ingest_sdg"]
        assert (found.state, found.attempt) == ("failed", attempt)
        assert error in found.error
        assert "hf_planted" not in found.error  # what a library says may hold anything

    run_as_step("ingest_sdg", lambda: lambda data: notes(), {"data": "another"})
    assert records.read_records(kept)["ingest_sdg"].state == "finished"


def test_an_attempt_after_a_mistake_repeats_it_before_anything_is_loaded(kept, tmp_path, capsys):
    loaded = []

    def core(data: str) -> None:
        raise problem("the file is empty", where=data, rule="a header", remedy="look")

    def attempt() -> str:
        with pytest.raises(SystemExit, match="1"):
            run_as_step("ingest_sdg", lambda: loaded.append(1) or core, {"data": str(tmp_path / "qa.csv")})
        return capsys.readouterr().out

    (tmp_path / "qa.csv").write_text("", encoding="utf-8")
    first, second = attempt(), attempt()
    assert "the file is empty" in first
    assert "the file is empty" in second
    assert "not tried again" in second
    assert loaded == [1]
    assert records.read_records(kept)["ingest_sdg"].attempt == 2

    (tmp_path / "qa.csv").write_text("question,response\n", encoding="utf-8")  # mended in its place
    assert "not tried again" not in attempt()
    assert loaded == [1, 1]


@pytest.mark.parametrize("change", ["it may pass", "another node", "a program's fault", "long ago"])
def test_an_attempt_that_may_end_otherwise_is_made(kept, monkeypatch, change):
    loaded = []

    def core() -> None:
        if change == "a program's fault":
            raise RuntimeError("?")
        raise problem("no answer", where="hub", rule="one", remedy="wait", may_pass=change == "it may pass")

    for number in (1, 2):
        if change == "another node":
            monkeypatch.setenv(records.NODE_VARIABLE, f"node-{number}")
        if change == "long ago":
            monkeypatch.setattr(step, "REPEAT_SECONDS", -1.0)
        with pytest.raises(SystemExit):
            run_as_step("snapshot_model", lambda: loaded.append(1) or core, {})
    assert loaded == [1, 1]


def test_step_that_is_killed_stays_started(kept):
    program = "import os\nfrom components.shared.step import run_as_step\n"
    program += "run_as_step('train_osft', lambda: lambda: os.kill(os.getpid(), 9), {})"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9

    assert outcome(records.read_records(kept), "FAILED").title.startswith("train_osft was ended from outside")


def test_nothing_is_recorded_outside_of_a_cluster(tmp_path, monkeypatch):
    monkeypatch.delenv("OSFT_STEP_RECORDS", raising=False)
    monkeypatch.chdir(tmp_path)

    run_as_step("ingest_sdg", lambda: notes, {})

    assert list(tmp_path.iterdir()) == []


def test_workspace_that_cannot_be_written_does_not_stop_the_step(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("OSFT_STEP_RECORDS", str(tmp_path / "file" / "below"))
    monkeypatch.setenv("KFP_RUN_ID", RUN)

    run_as_step("ingest_sdg", lambda: notes, {})

    assert "not recorded" in capsys.readouterr().out
