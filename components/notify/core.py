"""One notification to a webhook when a run has ended: outcome, failed step, numbers, link.

The address is a secret, because whoever knows it can post: it stands in no parameter, log, artifact or error. No
webhook and a webhook that fails are both no failure of the run.
"""

import dataclasses
import os
import time
from typing import Any

from components.notify import messages
from components.shared import progress
from components.shared.calls import Deadline, OutOfTime
from components.shared.problems import suggest
from components.shared.records import FAILED, FINISHED, StepRecord, read_records, records_folder

URL_VARIABLE = "WEBHOOK_URL"
FORMAT_VARIABLE = "WEBHOOK_FORMAT"
TIMEOUT_SECONDS = 20.0  # of one attempt
PAUSES_SECONDS = (0.0, 2.0, 10.0)  # before each attempt
RETRYABLE = {408, 425, 429, 500, 502, 503, 504}  # statuses after which another attempt is worth while
MAX_ERROR = 1500  # characters; chat services cut or refuse long messages
SUCCEEDED = {"COMPLETE", "SUCCEEDED"}  # what KFP says of a run all of whose tasks it saw end well
SWEEP_STEPS = {False: ("plan_training",), True: ("plan_sweep", "run_sweep", "compare")}
FACTS = {
    "kept": "rows trained on",
    "steps": "training steps",
    "loss_first": "first loss",
    "loss_last": "last loss",
    "closed": "gap questions closed",
    "regressed": "gap questions regressed",
    "gap_questions": "gap questions",
    "to_try": "to try",
    "run_key": "run",
    "settings": "settings",
    "failed": "settings that failed",
    "model": "model",
    "uri": "published as",
}
"""Facts of the steps' records that a notification holds, in this order, and their names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended, in words."""

    title: str
    failed: bool
    error: str
    """Of the step that failed; empty when none did, or it left none."""
    facts: dict[str, str]
    """Name and value, for people."""


def notify(*, state: str, run: str, runs_page: str, sweep: bool = False) -> Outcome:
    """Send a notification of how the run, or a sweep over several settings, ended. KFP's `state` is for the case that
    the steps' records do not say; the dashboard shows a run by its id below `runs_page`, if there is one."""
    folder = records_folder()
    records = read_records(folder) if folder and folder.is_dir() else {}
    records.pop("notify", None)  # its own, begun a moment ago
    found = outcome(records, state, sweep)
    progress.log(found.title)
    url, style = os.environ.get(URL_VARIABLE, "").strip(), os.environ.get(FORMAT_VARIABLE, "").strip() or "slack"
    if not url:
        progress.log("no webhook is set: no notification sent")
    elif style not in messages.FORMATS:
        progress.log(f"no notification sent: {FORMAT_VARIABLE} is not one of {', '.join(messages.FORMATS)}")
        progress.log(f"correct it in the webhook's secret{suggest(style, messages.FORMATS)}")
    else:
        link = f"{runs_page.rstrip('/')}/{folder.name}" if runs_page and folder else ""
        _post(url, messages.FORMATS[style](found, run, link))
    return found


def outcome(records: dict[str, StepRecord], state: str, sweep: bool = False) -> Outcome:
    """How the run ended by its steps' records; where one is missing, by what KFP says.

    KFP calls a run succeeded only when it is. FAILED may be left over from an attempt after which the step was tried
    again (kubeflow/pipelines issue 13591). "RUNNING", the rest, stands for a run whose pod never started, and for every
    run that came to a condition (2.16.1, and issues 11979 and 13321).
    """
    facts = _facts(records)
    in_order = sorted(records.values(), key=lambda record: record.started_at)
    failed = [record for record in in_order if record.state == FAILED]
    killed = [record for record in in_order if record.state not in (FAILED, FINISHED)]
    if failed or killed:
        step, *others = failed or killed
        # An attempt after a mistake only repeats it.
        attempts = f" after {step.attempt} attempts" if step.attempt > 1 and not step.mistake else ""
        what = "failed" if failed else "was ended from outside (memory, time, eviction or cancelled)"
        also = f"; so did {' and '.join(other.step for other in others)}" if failed and others else ""
        return Outcome(title=f"{step.step} {what}{attempts}{also}", failed=True, error=_cut(step.error), facts=facts)
    missing = next((step for step in expected_steps(records, sweep) if step not in records), "")
    tried_again = any(record.attempt > 1 for record in records.values())
    succeeded = state in SUCCEEDED or (not missing and (state != "FAILED" or tried_again))
    if missing and succeeded:
        title = f"KFP calls the run succeeded; {missing} left no record in the workspace: see the run's page"
    elif missing:
        title = f"{missing} left no record of a start: the run's page shows which task failed, and its error"
    elif not succeeded:
        title = "every step finished, and KFP calls the run failed: see the run's page"
    elif judged := records.get("compare") or records.get("evaluate"):
        title = str(judged.facts.get("verdict", "the run has ended"))
    else:
        title = str(records["plan_training"].facts.get("to_do", "the run has ended"))
    return Outcome(title=title, failed=not succeeded, error="", facts=facts)


def expected_steps(records: dict[str, StepRecord], sweep: bool = False) -> list[str]:
    """The steps that this run had to come to, as far as its records tell; those under a condition when it held."""
    steps = ["ingest_sdg", "format_chat", "snapshot_model", *SWEEP_STEPS[sweep]]
    planned, judged = records.get("plan_training"), records.get("compare") or records.get("evaluate")
    if planned and planned.facts.get("anything_to_do"):
        steps += ["train_osft", "evaluate"]
    if judged and judged.facts.get("good"):
        steps += ["publish"]
    return steps


def _facts(records: dict[str, StepRecord]) -> dict[str, str]:
    found = {name: value for record in records.values() for name, value in record.facts.items()}
    return {
        words: f"{found[name]:.4g}" if isinstance(found[name], float) else progress.printable(str(found[name]))
        for name, words in FACTS.items()
        if name in found
    }


def _cut(text: str) -> str:
    whole = progress.printable_lines(text)
    return whole if len(whole) <= MAX_ERROR else whole[: MAX_ERROR - 1] + "…"


def _post(url: str, message: dict[str, Any]) -> None:
    """Send a message; log how it went, and nothing that could hold the address: no error's text, no answer's body."""
    import requests

    def post() -> requests.Response:
        # A redirect is not followed: the message is for the address that was given. What is answered is not read.
        return requests.post(url, json=message, timeout=TIMEOUT_SECONDS, allow_redirects=False, stream=True)

    fault = ""
    for pause in PAUSES_SECONDS:
        time.sleep(pause)
        try:
            answer = Deadline(TIMEOUT_SECONDS).call(post)
        except (requests.RequestException, ValueError, OutOfTime) as error:  # ValueError: an address that cannot be one
            fault = type(error).__name__
            if not isinstance(error, requests.ConnectionError | requests.Timeout | OutOfTime):
                break
            continue
        if answer.ok and not answer.is_redirect:
            progress.log("notification sent")
            return
        fault = f"status {answer.status_code}"
        if answer.status_code not in RETRYABLE:
            break
    progress.log(f"the notification could not be sent: {fault}; the run's result stands")
