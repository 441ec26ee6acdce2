"""The API's runs and schedules as dataclasses, and its lists page after page."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from components.shared.problems import problem
from components.shared.progress import printable
from pipeline.cluster.connection import Connection

FINISHED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
UNFINISHED = ("PENDING", "RUNNING", "PAUSED", "CANCELING")
UNSPECIFIED = "RUNTIME_STATE_UNSPECIFIED"
PAGE = 100
MAX_PAGES = 200  # of a list; a server whose list never ends is not waited for
EQUALS = 1  # kfp's number for the operation of a filter
DIGEST = re.compile(r"content sha256:([0-9a-f]{64})")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    run_id: str
    name: str
    state: str
    created_at: datetime | None
    finished_at: datetime | None
    link: str
    """In the dashboard; empty when its page is not known."""

    @property
    def finished(self) -> bool:
        return self.state in FINISHED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    schedule_id: str
    name: str
    enabled: bool
    cron: str
    """Empty when it runs in intervals."""
    pipeline_id: str
    version_id: str
    digest: str
    """Of its content; empty when another program made it."""
    created_at: datetime | None
    link: str
    """In the dashboard; empty when its page is not known."""


def recurring_runs(connection: Connection, name: str) -> Iterator[Any]:
    """All recurring runs, or those of a name."""
    client, named = connection.client, equals("display_name", name) if name else None
    return pages_of(
        connection,
        lambda token: client.list_recurring_runs(
            page_token=token, page_size=PAGE, namespace=client.get_user_namespace(), filter=named
        ),
        "recurring_runs",
    )


def pages_of(connection: Connection, list_page: Callable[[str], Any], items: str, max_pages: int = 0) -> Iterator[Any]:
    """The items of a list, page after page, of the first `max_pages` if it is given. Raises Problems when the list
    does not end."""
    token = ""
    for _ in range(max_pages or MAX_PAGES):
        page = connection.ask(lambda token=token: list_page(token))  # type: ignore[misc]
        yield from getattr(page, items) or []
        token = page.next_page_token or ""
        if not token:
            return
    if not max_pages:
        raise problem(
            f"the KFP API's list of {items} has no end after {MAX_PAGES} pages",
            where=connection.access.host,
            rule=f"a list of up to {MAX_PAGES * PAGE} entries",
            remedy="remove old ones in the dashboard; if there are few, look at the pods of the pipelines server",
        )


def equals(key: str, value: str) -> str:
    return json.dumps({"predicates": [{"operation": EQUALS, "key": key, "stringValue": value}]})


def run_of(run: Any, connection: Connection) -> Run:
    return Run(
        run_id=printable(str(run.run_id)),
        name=printable(str(run.display_name)),
        state=printable(str(run.state or "PENDING")),
        created_at=parse_time(run.created_at),
        finished_at=parse_time(run.finished_at),
        link=connection.access.run_link(printable(str(run.run_id))),
    )


def schedule_of(item: Any, connection: Connection) -> Schedule:
    digest = DIGEST.search(item.description or "")
    reference = item.pipeline_version_reference
    cron = item.trigger.cron_schedule if item.trigger else None
    return Schedule(
        schedule_id=printable(str(item.recurring_run_id)),
        name=printable(str(item.display_name)),
        enabled=item.mode == "ENABLE",
        cron=printable(cron.cron or "") if cron else "",
        pipeline_id=pipeline_of(item),
        version_id=str(reference.pipeline_version_id) if reference else "",
        digest=digest[1] if digest else "",
        created_at=parse_time(item.created_at),
        link=connection.access.schedule_link(printable(str(item.recurring_run_id))),
    )


def pipeline_of(item: Any) -> str:
    reference = item.pipeline_version_reference
    return str(reference.pipeline_id or "") if reference else ""


def parse_time(value: Any) -> datetime | None:
    """KFP sends the year 1970 for what has not happened yet; its times are of UTC, with or without a zone."""
    if not isinstance(value, datetime) or value.year <= 1970:
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
