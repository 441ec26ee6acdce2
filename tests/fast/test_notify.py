"""One notification at the end of a run: what it says, to whom, and that its address stays a secret."""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.notify import core, messages
from components.notify.core import Outcome, notify, outcome
from components.shared.records import StepRecord
from components.shared.step import run_step
from components.shared.storage import write_json
from tests.compiled_step import run_compiled
from tests.tables import table
from tests.webhook_server import SECRET, WebhookServer

RUN = "2f3c0d4e-0000-4000-8000-000000000001"
PAGE = "https://dashboard.example/runs"


def record(
    step: str,
    state: str = "finished",
    attempt: int = 1,
    error: str = "",
    minute: int = 0,
    mistake: bool = False,
    **facts: Any,
) -> StepRecord:
    started = f"2026-11-22T02:{minute:02d}:00+00:00"
    return StepRecord(
        step=step, state=state, attempt=attempt, started_at=started, error=error, mistake=mistake, facts=facts
    )


def by_step(*some: StepRecord) -> dict[str, StepRecord]:
    return {one.step: one for one in some}


DATA = [record("ingest_sdg", kept=64), record("format_chat"), record("snapshot_model")]
PLANNED = record("plan_training", run_key="6fdf", anything_to_do=True, to_do="to do: train and evaluate")
IDLE = record("plan_training", run_key="6fdf", anything_to_do=False, to_do="nothing to do: run 6fdf is trained")
TRAINED = record("train_osft", steps=48, loss_first=1.486349, loss_last=0.0411)
GOOD = record("evaluate", verdict="closed 7 of the 10", good=True, closed=7.0, regressed=0.0)
BAD = record("evaluate", verdict="closed 0 of the 10; not good", good=False, to_try="train fewer epochs")
PUBLISHED = record("publish", model="granite-osft 6fdf", uri="pvc://osft-workspace/adapted/6fdf")
NAMED = {"DATA": DATA, "PLANNED": [PLANNED], "IDLE": [IDLE], "TRAINED": [TRAINED], "GOOD": [GOOD], "BAD": [BAD]}
NAMED |= {"PUBLISHED": [PUBLISHED]}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder of a run's records, as in a pod."""
    monkeypatch.setenv("OSFT_STEP_RECORDS", str(tmp_path / "pipeline-runs"))
    monkeypatch.setenv("KFP_RUN_ID", RUN)
    monkeypatch.delenv("WEBHOOK_URL", raising=False)
    monkeypatch.delenv("WEBHOOK_FORMAT", raising=False)
    return tmp_path / "pipeline-runs" / RUN


@pytest.mark.parametrize(("found", "state", "failed", "title"), table("notify", "outcomes"))
def test_outcome_is_what_the_records_say(found, state, failed, title):
    records = [NAMED[one] if isinstance(one, str) else [record(**one)] for one in found]
    ended = outcome(by_step(*itertools.chain(*records)), state)

    assert ended.failed == failed
    assert re.match(title, ended.title), ended.title


SWEEP = [
    *DATA,
    record("plan_sweep", settings=3),
    record("run_sweep", failed="wild"),
    record("compare", verdict="Best: lora; failed: wild", good=True),
]


@pytest.mark.parametrize(
    ("records", "failed", "title"),
    [
        ([*SWEEP, PUBLISHED], False, "Best: lora; failed: wild"),
        (SWEEP, True, "publish left no record"),
        (DATA, True, "plan_sweep left no record"),
        ([*SWEEP[:4]], True, "run_sweep left no record"),
    ],
)
def test_of_a_sweep_it_says_the_best_and_what_failed(records, failed, title):
    ended = outcome(by_step(*records), "RUNNING", sweep=True)

    assert ended.failed == failed
    assert ended.title.startswith(title)
    assert ("settings that failed" in ended.facts) == (len(records) > 5)


def test_facts_have_words_and_short_numbers():
    ended = outcome(by_step(*DATA, PLANNED, TRAINED, GOOD, PUBLISHED), "COMPLETE")

    assert ended.facts == {
        "rows trained on": "64",
        "training steps": "48",
        "first loss": "1.486",
        "last loss": "0.0411",
        "gap questions closed": "7",
        "gap questions regressed": "0",
        "run": "6fdf",
        "model": "granite-osft 6fdf",
        "published as": "pvc://osft-workspace/adapted/6fdf",
    }


def test_a_model_that_is_not_good_comes_with_what_to_try():
    assert outcome(by_step(*DATA, PLANNED, TRAINED, BAD), "COMPLETE").facts["to try"] == "train fewer epochs"


def test_long_error_is_cut_and_has_no_control_characters():
    ended = outcome(by_step(record("evaluate", "failed", error="\x1b[31m" + "x" * 9999)), "FAILED")

    assert len(ended.error) == core.MAX_ERROR
    assert "\x1b" not in ended.error


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


def test_slack_shows_untrusted_text_as_it_stands():
    message = messages.slack(FAILED, "osft-x7k2p", f"{PAGE}/{RUN}")

    assert "<!channel>" not in message["text"]
    assert "&lt;!channel&gt;" in message["text"]
    shown = [block["text"] for block in message["blocks"] if "text" in block]
    assert [text["type"] for text in shown] == ["plain_text"] * 3
    assert HOSTILE in shown[1]["text"]
    assert message["blocks"][-1]["elements"][0]["url"] == f"{PAGE}/{RUN}"


def test_teams_shows_untrusted_text_in_text_runs_which_know_no_markdown():
    card = messages.teams(FAILED, "osft-x7k2p", f"{PAGE}/{RUN}")["attachments"][0]["content"]

    assert {element["type"] for element in card["body"]} == {"RichTextBlock"}
    assert {run["type"] for element in card["body"] for run in element["inlines"]} == {"TextRun"}
    assert HOSTILE in list(texts_of(card["body"]))
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Open the run", "url": f"{PAGE}/{RUN}"}]


@pytest.mark.parametrize("style", list(messages.FORMATS))
def test_message_without_a_dashboard_has_no_link(style):
    message = messages.FORMATS[style](FAILED, "osft-x7k2p", "")

    assert not any("Open the run" in text for text in texts_of(message))


@pytest.mark.parametrize(("style", "key"), [("", "blocks"), ("slack", "blocks"), ("teams", "attachments")])
def test_a_notification_has_its_services_format(kept, monkeypatch, style, key):
    with WebhookServer() as webhook:
        monkeypatch.setenv("WEBHOOK_URL", webhook.url)
        monkeypatch.setenv("WEBHOOK_FORMAT", style)
        notify(state="FAILED", run="osft-x7k2p", runs_page=PAGE + "/")

    (message,) = webhook.messages
    assert key in message
    text = "\n".join(texts_of(message))
    assert all(part in text for part in ("ingest_sdg left no record", f"{PAGE}/{RUN}", "osft-x7k2p"))


@pytest.mark.parametrize(("answers", "tries", "line"), table("notify", "webhooks"))
def test_webhook_that_fails_fails_nothing(
    kept, monkeypatch, capsys,
    answers, tries, line):  # fmt: skip
    monkeypatch.setattr(core, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    with WebhookServer(answers) as webhook:
        monkeypatch.setenv("WEBHOOK_URL", webhook.url)
        notify(state="FAILED", run="osft-x7k2p", runs_page="")

    assert len(webhook.messages) == tries
    assert line in (out := capsys.readouterr().out)
    assert SECRET not in out


@pytest.mark.parametrize(
    ("url", "style", "line"),
    [
        ("", "slack", "no webhook is set: no notification sent"),
        ("http://127.0.0.1:9/" + SECRET, "slack", "could not be sent: ConnectionError"),
        (SECRET, "slack", "could not be sent: MissingSchema"),
        ("http://[" + SECRET, "slack", "could not be sent: InvalidURL"),
        ("file:///" + SECRET, "slack", "could not be sent: InvalidSchema"),
        ("http://127.0.0.1:9/" + SECRET, "Slak", "did you mean slack?"),
    ],
)
def test_address_of_no_use_fails_nothing_and_is_not_shown(kept, monkeypatch, capsys, url, style, line):
    monkeypatch.setattr(core, "PAUSES_SECONDS", (0.0, 0.0))
    monkeypatch.setenv("WEBHOOK_URL", url)
    monkeypatch.setenv("WEBHOOK_FORMAT", style)

    notify(state="COMPLETE", run="osft-x7k2p", runs_page="")

    assert line in (out := capsys.readouterr().out)
    assert SECRET not in out


def write_records(folder: Path, *some: StepRecord) -> None:
    for one in some:
        write_json(folder / f"{one.step}.json", dataclasses.asdict(one))


ENDED = [
    ([*DATA, PLANNED, TRAINED, GOOD, PUBLISHED], "COMPLETE", "OSFT run succeeded: closed 7 of the 10"),
    (
        [*DATA, PLANNED, record("train_osft", "started", 2)], "RUNNING",
        "OSFT run failed: train_osft was ended from outside (memory, time, eviction or cancelled) after 2 attempts",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("found", "state", "text"), ENDED)
def test_step_in_its_pod_reports_the_others_and_not_itself(kept, monkeypatch, found, state, text):
    """In a pod `notify` records itself like every step, and again when it is tried again."""
    write_records(kept, *found)
    with WebhookServer() as webhook:
        monkeypatch.setenv("WEBHOOK_URL", webhook.url)
        for _ in range(2):
            run_step("notify", state=state, run="osft-x7k2p", runs_page=PAGE)

    assert [message["text"] for message in webhook.messages] == [text, text]


@pytest.mark.parametrize(("found", "state", "text"), ENDED)
def test_the_compiled_step_sends_the_notification_and_keeps_the_address(kept, tmp_path, found, state, text):
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
    assert [message["text"] for message in webhook.messages] == [text]
    assert "notify | notification sent" in done.stdout
    assert SECRET not in done.stdout + done.stderr
    assert all(SECRET not in path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("content", ["[1]", "7", "{}", "[" * 100_000, '{"step": "train_osft"', None])
def test_record_that_cannot_be_read_keeps_no_notification_back(kept, monkeypatch, capsys, content):
    write_records(kept, *DATA, PLANNED)
    place = kept / "train_osft.json"
    os.mkfifo(place) if content is None else place.write_text(content, encoding="utf-8")
    with WebhookServer() as webhook:
        monkeypatch.setenv("WEBHOOK_URL", webhook.url)
        run_step("notify", state="RUNNING", run="osft-x7k2p", runs_page=PAGE)

    assert "train_osft left no record" in webhook.messages[0]["text"]
    assert "the record train_osft.json cannot be read" in capsys.readouterr().out
