"""schedule, unschedule and status: one enabled schedule of a name, and no running training is ended."""

import contextlib
import io
import json
import random
import re
import threading

import pytest

from components.shared.problems import Problems
from pipeline.cluster import schedules
from pipeline.cluster.access import Access
from pipeline.cluster.compiled_file import PIPELINE
from pipeline.cluster.connection import connect
from pipeline.cluster.cron import parse_cron
from tests.fast.cluster.conftest import MONDAYS, PARAMETERS, PATIENT, SUNDAYS, TOKEN
from tests.kfp_server import Fault, KfpServer

REPLACE, REMOVE = ["schedule", "nightly", *MONDAYS, *PARAMETERS], ["unschedule", "nightly"]
either = pytest.mark.parametrize("command", [REPLACE, REMOVE], ids=["schedule", "unschedule"])


@pytest.fixture
def nightly(osft, server):
    """The id of a schedule that is there."""
    osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)
    (schedule_id,) = server.schedules
    return schedule_id


def test_schedule_says_what_it_means(server, osft):
    code, out, _ = osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)

    (made,) = server.schedules.values()
    assert code == 0
    assert "at 02:00 on Sunday; times are UTC" in out
    assert len(re.findall(r"\d{4}-\d\d-\d\d 02:00:00 UTC", out)) == 3
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 2 * * 0"}}
    assert (made["mode"], made["no_catchup"], made["max_concurrency"]) == ("ENABLE", True, "1")
    assert made["runtime_config"]["parameters"]["data"] == "/mnt/osft/qa.csv"


def test_the_same_schedule_again_changes_nothing(server, osft, nightly):
    before, sent = dict(server.schedules), len(server.changes)

    code, out, _ = osft("schedule", "nightly", "--cron", " 0 0  2 * * 0", *PARAMETERS)

    assert code == 0
    assert "is there already" in out
    assert server.schedules == before
    assert len(server.changes) == sent


@pytest.mark.parametrize("change", [MONDAYS, [*SUNDAYS, "--param", "num_epochs=3"], "pipeline"], ids=str)
def test_a_schedule_with_other_content_takes_the_place_of_the_old_one(server, osft, other_pipeline, nightly, change):
    more = [*SUNDAYS, "--pipeline", other_pipeline] if change == "pipeline" else change

    code, out, _ = osft("schedule", "nightly", *more, *PARAMETERS)

    (new,) = server.named("nightly")
    assert code == 0
    assert new["recurring_run_id"] != nightly
    assert new["mode"] == "ENABLE"
    assert f"{nightly} is removed" in out
    assert server.max_enabled == {"nightly": 1}


@either
def test_a_running_training_survives_and_its_schedule_goes_when_it_has_ended(server, osft, nightly, command):
    for _ in range(120):  # ended runs fill more than a page
        server.fire(nightly, "SUCCEEDED")
    running = server.fire(nightly)

    code, out, _ = osft(*command)

    assert code == 0
    assert running in out
    assert ("until then two can run at once" in out) == (command == REPLACE)
    assert not server.killed
    assert server.schedules[nightly]["mode"] == "DISABLE"
    assert [item["mode"] for item in server.named("nightly")].count("ENABLE") == (command == REPLACE)

    server.runs[running]["state"] = "SUCCEEDED"
    osft(*command)

    assert nightly not in server.schedules
    assert len(server.named("nightly")) == (command == REPLACE)
    assert server.max_enabled == {"nightly": 1}
    assert not server.killed


@either
def test_a_run_that_starts_at_the_last_moment_survives(server, osft, monkeypatch, nightly, command):
    monkeypatch.setattr(schedules, "SETTLE_SECONDS", 0.5)
    server.late_run = True

    code, _, _ = osft(*command)

    assert code == 0
    assert len(server.runs) == 1
    assert not server.killed


@either
def test_another_pipelines_schedule_is_left_alone(server, osft, nightly, command):
    reference = {"pipeline_id": "theirs", "pipeline_version_id": "1"}
    server.schedules[nightly] |= {"description": "", "pipeline_version_reference": reference}
    before = len(server.changes)

    code, _, err = osft(*command)

    assert code == 1
    assert "is another pipeline's" in err
    assert len(server.changes) == before


@pytest.mark.parametrize("verb", [":disable", ":enable", ""])
def test_a_replacement_that_breaks_off_is_mended_by_the_next(server, connection, pipeline, verb):
    def schedule(text: str) -> schedules.Scheduling:
        values = {"data": "a", "questions": "b"}
        return schedules.schedule(connection, pipeline, "nightly", parse_cron(text), values, False, 0)

    schedule("0 0 2 * * 0")
    server.faults = [Fault(path=verb, status=400)] if verb else [Fault(method="DELETE", status=400)]
    with pytest.raises(Problems) as error:
        schedule("0 0 2 * * 1")
    assert bool(verb) == ("run the same command again" in str(error.value))
    server.faults = []
    schedule("0 0 2 * * 1")

    (left,) = server.named("nightly")
    assert left["mode"] == "ENABLE"
    assert left["trigger"]["cron_schedule"]["cron"] == "0 0 2 * * 1"
    assert server.max_enabled == {"nightly": 1}


@pytest.mark.parametrize("state", ["copied", "disabled", "of a version that was deleted"])
def test_whatever_was_done_to_it_one_enabled_schedule_results(server, osft, nightly, state):
    """The dashboard lets anybody duplicate and disable schedules, and delete versions."""
    schedule = server.schedules[nightly]
    server.schedules["other"] = schedule | {"recurring_run_id": "other", "display_name": "weekly"}
    if state == "copied":
        copies = [f"copy-{number}" for number in range(120)]
        server.schedules |= {copy: schedule | {"recurring_run_id": copy} for copy in copies}
    elif state == "disabled":
        schedule["mode"] = "DISABLE"
    else:
        server.versions.clear()
        server.pipelines.clear()

    code, _, _ = osft("schedule", "nightly", *SUNDAYS, *PARAMETERS)

    (left,) = server.named("nightly")
    assert code == 0
    assert left["mode"] == "ENABLE"
    assert left["pipeline_version_reference"]["pipeline_version_id"] in server.versions
    assert "other" in server.schedules


def test_wrong_times_and_wrong_parameters_are_named_together(server, osft):
    wrong = ["--param", "num_epochs=0", "--param", "seed=2.5"]

    code, _, err = osft("schedule", "nightly", "--cron", "0 2 * * *", *wrong)

    assert code == 1
    assert "use --cron '0 0 2 * * *', which is at 02:00 every day" in err
    assert "num_epochs is '0'" in err
    assert "seed is '2.5'" in err
    assert not server.requests


def test_a_schedule_is_not_replaced_by_one_with_placeholders(server, osft, nightly):
    before = dict(server.schedules)

    code, _, _ = osft("schedule", "nightly", *SUNDAYS, *PARAMETERS, "--pipeline", PIPELINE)

    assert code == 1
    assert server.schedules == before


def test_unschedule_removes_and_says_when_there_is_none(server, osft, nightly):
    dry = osft("unschedule", "nightly", "--dry-run")
    assert len(server.schedules) == 1

    first, second = osft("unschedule", "nightly"), osft("unschedule", "nightly")

    assert (dry[0], first[0], second[0]) == (0, 0, 0)
    assert "would be removed" in dry[1]
    assert "is removed" in first[1]
    assert "there is none named nightly" in second[1]
    assert not server.schedules


def test_status_shows_the_newest_runs_and_every_schedule(server, osft, nightly):
    ids = [server.fire(nightly, "SUCCEEDED") for _ in range(130)]
    server.runs[ids[-1]]["finished_at"] = "2026-11-22T13:05:00Z"
    for run_id in ids[5:-1]:
        server.runs[run_id]["pipeline_version_reference"] = {"pipeline_id": "theirs", "pipeline_version_id": "1"}
    for number in range(110):
        disabled = {"display_name": f"daily-{number}", "mode": "DISABLE"}
        server.schedules[f"s-{number}"] = server.schedules[nightly] | disabled

    code, out, _ = osft("status", "--runs", "4")

    assert code == 0
    assert re.findall(r"^ +(run-\d+)$", out, re.MULTILINE) == [ids[-1], *reversed(ids[2:5])]
    assert "to 2026-11-22 13:05:00 UTC" in out
    assert out.count("DISABLED") == 110
    assert re.search(r"ENABLED +nightly, 0 0 2 \* \* 0 \(at 02:00 on Sunday\), next \d{4}-\d\d-\d\d 02:00:00 UTC", out)


def test_status_of_a_cluster_that_has_nothing(osft):
    code, out, _ = osft("status")

    assert (code, out) == (0, "No runs of osft\nNo schedules of osft\n")


@pytest.mark.parametrize("same", [True, False], ids=["one content", "several contents"])
@pytest.mark.parametrize("per_second", [1, 10])
def test_calls_at_the_same_time_end_with_one_enabled_schedule(pipeline, monkeypatch, same, per_second):
    """Fifty rounds; each begins with what the last one left."""
    monkeypatch.setattr(schedules, "MAX_CREATIONS", 99)  # the server's clock is its own: with each thing that is made
    monkeypatch.setattr(schedules, "CREATION_SECONDS", 0.0)
    choice = random.Random(per_second)
    with KfpServer(token=TOKEN) as server, contextlib.redirect_stdout(io.StringIO()):
        server.numbers_per_second = per_second
        connections = [connect(Access(host=server.url, token=TOKEN), PATIENT) for _ in range(3)]
        for round_number in range(50):
            crons = [f"0 0 {round_number % 24} * * {0 if same else number}" for number in range(3)]
            results: dict[int, schedules.Scheduling] = {}
            faults: list[BaseException] = []

            def call(number: int, crons=crons, results=results, faults=faults) -> None:
                values = {"data": "a", "questions": "b"}
                cron = parse_cron(crons[number])
                try:
                    results[number] = schedules.schedule(
                        connections[number], pipeline, "nightly", cron, values, False, 0
                    )
                except BaseException as error:
                    faults.append(error)

            callers = [threading.Timer(choice.uniform(0, 0.05), call, [number]) for number in range(3)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()

            assert not faults
            (left,) = server.named("nightly")
            assert left["mode"] == "ENABLE"
            winning = left["trigger"]["cron_schedule"]["cron"]
            assert winning in crons
            assert {number for number, done in results.items() if done.overtaken} <= {
                number for number, cron in enumerate(crons) if cron != winning
            }


def test_the_last_of_two_calls_wins_within_one_second(connection, server, pipeline, monkeypatch):
    monkeypatch.setattr(schedules, "MAX_CREATIONS", 9)
    monkeypatch.setattr(schedules, "CREATION_SECONDS", 0.0)
    server.numbers_per_second = 4
    for hour in range(12):
        values = {"data": "a", "questions": "b"}
        done = schedules.schedule(connection, pipeline, "nightly", parse_cron(f"0 0 {hour} * * 0"), values, False, 0)
        assert not done.overtaken
        (left,) = server.named("nightly")
        assert left["trigger"]["cron_schedule"]["cron"] == f"0 0 {hour} * * 0"


@pytest.mark.parametrize("command", [REPLACE, REMOVE, ["status"]], ids=["schedule", "unschedule", "status"])
def test_list_that_never_ends_is_one_error(server, osft, nightly, command):
    page = {"recurringRuns": [], "runs": [], "next_page_token": "more"}
    server.faults = [Fault(path="/recurringruns", method="GET", status=200, body=json.dumps(page).encode())]

    code, _, err = osft(*command)

    assert code == 1
    assert "list of recurring_runs has no end" in err
