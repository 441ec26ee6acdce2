"""A call to a server: how long it may take, how much it may bring, when it is made again. The same for every client.

    deadline = Deadline(60.0)
    answer = deadline.call(lambda: client.get(address))
    for piece in deadline.each(read(answer)):
        deadline.renew()  # there was progress

A client's own time-out ends a silence, and a server that sends a byte a second is never silent. So what is waited for
runs in a thread of its own; when its time is over, nobody waits any longer, and it ends with its connection or the
process.
"""

import contextlib
import email.utils
import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any, TypeVar

from components.shared.problems import Problems

Item = TypeVar("Item")

COUNT = re.compile(r"\d{1,18}", re.ASCII)


class OutOfTime(Exception):
    """What was waited for did not come in time."""


class TooLong(Exception):
    """A server sends more than it can have to say."""


class Deadline:
    """When a call has to be over, whatever trickles."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.renew()

    def renew(self) -> None:
        """All the time again: there was progress."""
        self._ends = time.monotonic() + self.seconds

    @property
    def seconds_left(self) -> float:
        return self._ends - time.monotonic()

    def call(self, function: Callable[[], Item]) -> Item:
        """What the function returns. Raises OutOfTime, or what the function raises."""
        with contextlib.closing(self.each(function() for _ in range(1))) as only:
            return next(only)

    def each(self, items: Generator[Item, None, None]) -> Generator[Item, None, None]:
        """Each item as it comes. Raises OutOfTime when the next one is not there in time, or what the items raise."""
        passed: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        wanted, left = threading.Semaphore(0), threading.Event()

        def take() -> None:
            try:
                with contextlib.closing(items):
                    for item in items:
                        passed.put((True, item))
                        wanted.acquire()
                        if left.is_set():
                            return
                error = None
            except BaseException as raised:
                error = raised
            passed.put((False, error))

        threading.Thread(target=take, daemon=True).start()
        try:
            while True:
                try:
                    is_item, value = passed.get(timeout=max(0.0, self.seconds_left))
                except queue.Empty:
                    raise OutOfTime from None
                if is_item and self.seconds_left > 0:
                    yield value
                    wanted.release()
                elif is_item:  # it trickles
                    raise OutOfTime
                elif value is None:
                    return
                else:
                    raise value
        finally:
            left.set()
            wanted.release()


def join(pieces: Iterable[bytes], max_bytes: int) -> bytes:
    """All pieces together. Raises TooLong before there are more than `max_bytes` and a piece."""
    whole = bytearray()
    for piece in pieces:
        whole += piece
        if len(whole) > max_bytes:
            raise TooLong
    return bytes(whole)


def call_again(call: Callable[[], Item], pauses_seconds: Sequence[float]) -> Item:
    """Call, and after a problem that may pass once more for each pause, or after the longer one that the server asks
    for. Raises the last Problems."""
    for pause in pauses_seconds:
        try:
            return call()
        except Problems as error:
            if not error.may_pass:
                raise
            time.sleep(max(pause, error.retry_after_seconds))
    return call()


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """How long a server asks to wait, None when it does not say; a date is read against the server's own clock, ours
    may be wrong."""
    named = {name.lower(): value for name, value in headers.items()}
    text = named.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII):
        return float(text)
    try:
        until, now = (email.utils.parsedate_to_datetime(value) for value in (text, named.get("date", "")))
        # A date without a zone is of UTC, as all of HTTP's are.
        until, now = (moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in (until, now))
        return max(0.0, (until - now).total_seconds())
    except (TypeError, ValueError, IndexError, OverflowError):  # whatever the server sends
        return None


def count_of(text: str) -> int | None:
    """A number of bytes in a header; None for anything else, as 400 digits."""
    return int(text) if COUNT.fullmatch(text) else None


def bound_replies(max_bytes: int, *, only: Callable[[Any], bool] = lambda response: True) -> Callable[[Any], None]:
    """A hook for an httpx2 client, `event_hooks["response"]`: replies end with an error of the transport before they
    are longer, packed or not."""
    import httpx2

    class Bounded(httpx2.SyncByteStream):
        def __init__(self, response: httpx2.Response) -> None:
            assert isinstance(response.stream, httpx2.SyncByteStream)
            self._response, self._stream = response, response.stream

        def __iter__(self) -> Generator[bytes, None, None]:
            count = 0
            for piece in self._stream:
                count += len(piece)
                if count > max_bytes:
                    raise httpx2.ReadError(f"more than {max_bytes} bytes", request=self._response.request)
                yield piece

        def close(self) -> None:
            self._stream.close()

    def bound(response: httpx2.Response) -> None:
        if only(response):
            response.headers.pop("Content-Encoding", None)  # it was asked for as it is: unpacked it may be of any size
            response.stream = Bounded(response)

    return bound
