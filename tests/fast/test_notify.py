"""One message at the end of a run: what it says, to whom, and that its address stays a secret."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.notify import core, messages
from components.notify.core import Outcome, notify, outcome
from components.shared import records, step
from components.shared.problems import problem
from components.shared.records import StepRecord
from components.shared.step import run_as_step, run_step
from components.shared.storage import write_json
from tests.compiled_step import run_compiled
from tests.webhook_server import SECRET, WebhookServer

RUN = "2f3c0d4e-0000-4000-8000-000000000001"
PAGE = "https://dashboard.example/runs"


def record(step: str, state: str = "finished", attempt: int = 1, error: str = "", **facts: Any) -> StepRecord:
    started = "2026-11-22T02:00:00+00:00"
    return StepRecord(step=step, state=state, attempt=attempt, started_at=started, error=error, facts=facts)


def by_step(*some: StepRecord) -> dict[str, StepRecord]:
    return {one.step: one for one in some}


DATA = [record("ingest_sdg", kept=64), record("format_chat"), record("snapshot_model")]
PLANNED = record("plan_training", run_key="6fdf", anything_to_do=True, to_do="to do: train and evaluate")
IDLE = record("plan_training", run_key="6fdf", anything_to_do=False, to_do="nothing to do: run 6fdf is trained")
TRAINED = record("train_osft", steps=48, loss_first=1.486349, loss_last=0.0411)
GOOD = record("evaluate", verdict="closed 7 of the 10", good_enough=True, closed=7.0, regressed=0.0)
BAD = record("evaluate", verdict="closed 0 of the 10; not good enough", good_enough=False)
PUBLISHED = record("publish", model="granite-osft 6fdf", uri="pvc://osft-workspace/adapted/6fdf")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run's records, as in a pod."""
    monkeypatch.setenv("OSFT_STEP_RECORDS", str(tmp_path / "pipeline-runs"))
    monkeypatch.setenv("KFP_RUN_ID", RUN)
    monkeypatch.delenv("WEBHOOK_URL", raising=False)
    monkeypatch.delenv("WEBHOOK_FORMAT", raising=False)
    return tmp_path / "pipeline-runs" / RUN


@pytest.mark.parametrize(
    ("found", "state", "failed", "title"),
    [
        ([*DATA, PLANNED, TRAINED, GOOD, PUBLISHED], "COMPLETE", False, "closed 7 of the 10"),
        # KFP's state is the exit handler's own, which lags behind and knows no conditions.
        ([*DATA, PLANNED, TRAINED, GOOD, PUBLISHED], "RUNNING", False, "closed 7 of the 10"),
        ([*DATA, PLANNED, TRAINED, BAD], "COMPLETE", False, "closed 0 of the 10; not good enough"),
        ([*DATA, IDLE], "COMPLETE", False, "nothing to do: run 6fdf is trained"),
        ([record("ingest_sdg", "failed", error="1 problem")], "FAILED", True, "ingest_sdg failed"),
        ([*DATA, PLANNED, record("train_osft", "failed", 4)], "FAILED", True, "train_osft failed after 4 attempts"),
        ([*DATA, PLANNED, record("train_osft", "started")], "FAILED", True, "train_osft was ended from outside"),
        ([], "FAILED", True, "ingest_sdg never started"),
        ([*DATA, PLANNED], "RUNNING", True, "train_osft never started"),
        ([*DATA, PLANNED, TRAINED, GOOD], "FAILED", True, "publish never started"),
        ([*DATA, PLANNED, TRAINED, BAD], "FAILED", True, "every step finished, and KFP calls the run failed"),
        # A retry's success does not take back what KFP wrote after the attempt before.
        ([record("ingest_sdg", attempt=2), *DATA[1:], IDLE], "FAILED", False, "nothing to do: run 6fdf is trained"),
        ([record("ingest_sdg", attempt=2), *DATA[1:]], "FAILED", True, "plan_training never started"),
        # KFP calls a run complete only when it saw every task end well: then a record is missing, and not a step.
        ([], "COMPLETE", False, "KFP calls the run succeeded; what ingest_sdg did is not noted"),
        ([], "SUCCEEDED", False, "KFP calls the run succeeded; what ingest_sdg did is not noted"),
        ([*DATA, PLANNED], "COMPLETE", False, "KFP calls the run succeeded; what train_osft did is not noted"),
        ([*DATA, PLANNED, record("train_osft", "failed")], "COMPLETE", True, "train_osft failed"),
    ],
)
def test_outcome_is_what_the_steps_say(found: list[StepRecord], state: str, failed: bool, title: str) -> None:
    told = outcome(by_step(*found), state)

    assert (told.failed, told.title[: len(title)]) == (failed, title)


def test_facts_are_told_in_words_and_short_numbers() -> None:
    told = outcome(by_step(*DATA, PLANNED, TRAINED, GOOD, PUBLISHED), "COMPLETE")

    assert told.facts == {
        "rows learnt from": "64",
        "training steps": "48",
        "first loss": "1.486",
        "last loss": "0.0411",
        "gap questions closed": "7",
        "gap questions lost": "0",
        "run": "6fdf",
        "model": "granite-osft 6fdf",
        "published as": "pvc://osft-workspace/adapted/6fdf",
    }


def test_long_error_is_cut_and_has_no_control_characters() -> None:
    told = outcome(by_step(record("evaluate", "failed", error="\x1b[31m" + "x" * 9999)), "FAILED")

    assert len(told.error) == core.MAX_ERROR
    assert "\x1b" not in told.error


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


def test_step_that_ends_well_is_recorded_with_its_facts(kept: Path) -> None:
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
def test_step_that_fails_is_recorded_and_its_next_attempt_counted(kept: Path, core_of_step: Any, error: str) -> None:
    for attempt in (1, 2):
        with pytest.raises(SystemExit):
            run_as_step("ingest_sdg", lambda: core_of_step, {})
        found = records.read_records(kept)["ingest_sdg"]
        assert (found.state, found.attempt) == ("failed", attempt)
        assert error in found.error
        assert "hf_planted" not in found.error  # what a library says may hold anything

    run_as_step("ingest_sdg", lambda: lambda data: notes(), {"data": "another"})
    assert records.read_records(kept)["ingest_sdg"].state == "finished"


def test_an_attempt_after_a_mistake_repeats_it_before_anything_is_loaded(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
def test_an_attempt_that_may_end_otherwise_is_made(kept: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
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


def test_step_that_is_killed_stays_started(kept: Path) -> None:
    program = "import os\nfrom components.shared.step import run_as_step\n"
    program += "run_as_step('train_osft', lambda: lambda: os.kill(os.getpid(), 9), {})"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9

    assert outcome(records.read_records(kept), "FAILED").title.startswith("train_osft was ended from outside")


def test_nothing_is_recorded_outside_of_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSFT_STEP_RECORDS", raising=False)
    monkeypatch.chdir(tmp_path)

    run_as_step("ingest_sdg", lambda: notes, {})

    assert list(tmp_path.iterdir()) == []


def test_workspace_that_cannot_be_written_does_not_stop_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("OSFT_STEP_RECORDS", str(tmp_path / "file" / "below"))
    monkeypatch.setenv("KFP_RUN_ID", RUN)

    run_as_step("ingest_sdg", lambda: notes, {})

    assert "not recorded" in capsys.readouterr().out


def texts_of(value: Any) -> Iterator[str]:
    """All texts in a message."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_of(inner)


HOSTILE = "<!channel> *bold* [click](https://evil.example) @everyone & `code`"
FAILED = Outcome(title=f"train_osft failed {HOSTILE}", failed=True, error=HOSTILE, facts={"run": HOSTILE})


def test_slack_shows_untrusted_text_as_it_stands() -> None:
    message = messages.slack(FAILED, "osft-x7k2p", f"{PAGE}/{RUN}")

    assert "<!channel>" not in message["text"]
    assert "&lt;!channel&gt;" in message["text"]
    shown = [block["text"] for block in message["blocks"] if "text" in block]
    assert [text["type"] for text in shown] == ["plain_text"] * 3
    assert HOSTILE in shown[1]["text"]
    assert message["blocks"][-1]["elements"][0]["url"] == f"{PAGE}/{RUN}"


def test_teams_shows_untrusted_text_in_text_runs_which_know_no_markdown() -> None:
    card = messages.teams(FAILED, "osft-x7k2p", f"{PAGE}/{RUN}")["attachments"][0]["content"]

    assert {element["type"] for element in card["body"]} == {"RichTextBlock"}
    assert {run["type"] for element in card["body"] for run in element["inlines"]} == {"TextRun"}
    assert HOSTILE in list(texts_of(card["body"]))
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Open the run", "url": f"{PAGE}/{RUN}"}]


@pytest.mark.parametrize("style", list(messages.FORMATS))
def test_message_without_a_dashboard_has_no_link(style: str) -> None:
    message = messages.FORMATS[style](FAILED, "osft-x7k2p", "")

    assert not any("Open the run" in text for text in texts_of(message))


@pytest.mark.parametrize(("style", "key"), [("", "blocks"), ("slack", "blocks"), ("teams", "attachments")])
def test_webhook_is_told_in_its_format(kept: Path, monkeypatch: pytest.MonkeyPatch, style: str, key: str) -> None:
    with WebhookServer() as webhook:
        monkeypatch.setenv("WEBHOOK_URL", webhook.url)
        monkeypatch.setenv("WEBHOOK_FORMAT", style)
        notify(state="FAILED", run="osft-x7k2p", runs_page=PAGE + "/")

    (message,) = webhook.messages
    assert key in message
    said = "\n".join(texts_of(message))
    assert "ingest_sdg never started" in said
    assert f"{PAGE}/{RUN}" in said
    assert "osft-x7k2p" in said


@pytest.mark.parametrize(
    ("answers", "tries", "said"),
    [
        ([200], 1, "the webhook is told"),
        ([503, 429, 200], 3, "the webhook is told"),
        ([503], 3, "could not be told: status 503"),
        ([404], 1, "could not be told: status 404"),
        ([302], 1, "could not be told: status 302"),
    ],
)
def test_webhook_that_fails_fails_nothing(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    answers: list[int], tries: int, said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(core, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    with WebhookServer(answers) as webhook:
        monkeypatch.setenv("WEBHOOK_URL", webhook.url)
        notify(state="FAILED", run="osft-x7k2p", runs_page="")

    assert len(webhook.messages) == tries
    assert said in (out := capsys.readouterr().out)
    assert SECRET not in out


@pytest.mark.parametrize(
    ("url", "style", "said"),
    [
        ("", "slack", "no webhook is set"),
        ("http://127.0.0.1:9/" + SECRET, "slack", "could not be told: ConnectionError"),
        (SECRET, "slack", "could not be told: MissingSchema"),
        ("http://[" + SECRET, "slack", "could not be told: InvalidURL"),
        ("file:///" + SECRET, "slack", "could not be told: InvalidSchema"),
        ("http://127.0.0.1:9/" + SECRET, "Slak", "did you mean slack?"),
    ],
)
def test_address_of_no_use_fails_nothing_and_is_not_shown(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, style: str, said: str
) -> None:
    monkeypatch.setattr(core, "PAUSES_SECONDS", (0.0, 0.0))
    monkeypatch.setenv("WEBHOOK_URL", url)
    monkeypatch.setenv("WEBHOOK_FORMAT", style)

    notify(state="COMPLETE", run="osft-x7k2p", runs_page="")

    assert said in (out := capsys.readouterr().out)
    assert SECRET not in out


def write_records(folder: Path, *some: StepRecord) -> None:
    for one in some:
        write_json(folder / f"{one.step}.json", dataclasses.asdict(one))


ENDED = [
    ([*DATA, PLANNED, TRAINED, GOOD, PUBLISHED], "COMPLETE", "OSFT run succeeded: closed 7 of the 10"),
    ([*DATA, IDLE], "RUNNING", "OSFT run succeeded: nothing to do: run 6fdf is trained"),
    ([*DATA, PLANNED, TRAINED, BAD], "RUNNING", "OSFT run succeeded: closed 0 of the 10; not good enough"),
    ([record("ingest_sdg", "failed", error="1 problem")], "FAILED", "OSFT run failed: ingest_sdg failed"),
    (
        [*DATA, PLANNED, record("train_osft", "started", 2)], "RUNNING",
        "OSFT run failed: train_osft was ended from outside (memory, time, eviction or cancelled) after 2 attempts",
    ),
    (
        [*DATA, PLANNED], "RUNNING",
        "OSFT run failed: train_osft never started: "
        "its pod found no node, image, volume or time; the run's page says which",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("found", "state", "said"), ENDED)
def test_step_in_its_pod_tells_of_the_others_and_not_of_itself(
    kept: Path, monkeypatch: pytest.MonkeyPatch, found: list[StepRecord], state: str, said: str
) -> None:
    """In a pod `notify` records itself like every step, and again when it is tried again."""
    write_records(kept, *found)
    with WebhookServer() as webhook:
        monkeypatch.setenv("WEBHOOK_URL", webhook.url)
        for _ in range(2):
            run_step("notify", state=state, run="osft-x7k2p", runs_page=PAGE)

    assert [message["text"] for message in webhook.messages] == [said, said]


@pytest.mark.parametrize(("found", "state", "said"), [ENDED[0], ENDED[4]])
def test_the_compiled_step_tells_the_webhook_and_never_its_address(
    kept: Path, tmp_path: Path, found: list[StepRecord], state: str, said: str
) -> None:
    """As KFP starts it: the container's command with its input; KFP's executor logs more than our steps do."""
    status = {
        "state": state,
        "pipelineJobResourceName": "osft-x7k2p",
        "pipelineTaskName": "exit-handler-1",
        "error": {},
    }
    write_records(kept, *found)
    with WebhookServer() as webhook:
        parameters = {"status": status, "runs_page": PAGE}
        done = run_compiled("notify", tmp_path, parameters, {"WEBHOOK_URL": webhook.url})

    assert done.returncode == 0, done.stderr
    assert [message["text"] for message in webhook.messages] == [said]
    assert "notify | the webhook is told" in done.stdout
    assert SECRET not in done.stdout + done.stderr
    assert all(SECRET not in path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file())
