"""Verdicts by a judge model at any endpoint with OpenAI's chat completions API.

The judge sees one question, its reference and one answer at a time, as JSON in the user's message: never which model
answered, nor the other model's answer. The same answer to the same question is graded once. The order is shuffled.

    {"question": "What colour is a master's sash?", "reference": "crimson", "answer": "A master's sash is red."}
    -> {"reason": "Red is not crimson.", "verdict": "wrong"}

It is asked at temperature 0 for JSON with a schema, and otherwise where the endpoint refuses that (`Change`). An answer
that could not be graded is not a wrong answer: it is an error that names the question, or, where the endpoint refuses
its content, ungraded.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import re
from collections.abc import Iterable, Set
from typing import TYPE_CHECKING, Any

from components.grading.cases import Case, OnVerdict, Verdict, ignore
from components.grading.endpoint_replies import (
    Change,
    is_refused_content,
    is_unknown_model,
    next_change,
    read_completion,
    words_of,
    words_of_reply,
)
from components.grading.pacing import Failure, Pace
from components.grading.rubric import RUBRIC, VERDICTS, as_json
from components.run.evaluation_options import EvaluationOptions
from components.shared import progress, reach
from components.shared.calls import Deadline, OutOfTime, bound_replies, retry_after_seconds
from components.shared.options import set_option
from components.shared.problems import Problem, Problems, problem, quote

if TYPE_CHECKING:
    import openai

KEY_VARIABLE = "JUDGE_API_KEY"
MAX_REPLIES = 3  # until one is usable
RETRIES = 6  # of one case after 408, 409, 5xx and time-outs
MAX_PAUSES = 10  # of an endpoint that is away or overloaded, without any verdict in between: about five minutes
FIRST_PAUSES = 2  # of one that has never answered: its address may be wrong
MAX_RETRY_AFTER_SECONDS = 600.0  # an endpoint that asks for more has no quota left
MAX_REPLY_BYTES = 1 << 22
MAX_WORDS = 2000  # characters of what an endpoint says
MAX_REASON = 500

OVERLOADED = (429, 503, 529)
WRONG_ADDRESS = (301, 302, 307, 308, 404, 405)
CHANGEABLE = (400, 422, 500, 501)  # llama.cpp answers 500 when a chat template refuses the system's message
CONTENT = (400, 403, 422, 451)

SCHEMA = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "verdict": {"type": "string", "enum": list(VERDICTS)}},
    "required": ["reason", "verdict"],
    "additionalProperties": False,
}
SET_KEY = (
    f"export {KEY_VARIABLE}=KEY; in a cluster: oc create secret generic osft-judge --from-file={KEY_VARIABLE}=FILE "
    "--dry-run=client -o yaml | oc replace -f -"
)
ANOTHER_JUDGE = "use another judge_model, or leave judge_url and judge_model empty to grade without an endpoint"
RUN_AGAIN = f"run again, nothing is trained twice; if it persists, {ANOTHER_JUDGE}"


class EndpointJudge:
    """A judge model at an endpoint."""

    def __init__(self, url: str, model: str, *, concurrency: int, timeout_seconds: float, reply_tokens: int) -> None:
        """
        Args:
            url: of the API, as in https://host/v1; the key comes from the environment variable KEY_VARIABLE.
            model: the judge's name there.
            concurrency: requests at a time, at most.
            timeout_seconds: for a reply.
            reply_tokens: of a reply, at most.

        Raises:
            Problems: when the key cannot be sent in a header, or not to this host (components/shared/reach.py).
        """
        reach.check_judge(url)
        self.url, self.model, self.timeout_seconds, self.reply_tokens = url, model, timeout_seconds, reply_tokens
        self.key = os.environ.get(KEY_VARIABLE, "").strip()  # a secret made from a file ends with a line break
        if not (self.key.isascii() and self.key.isprintable()):
            raise problem(
                "the judge's API key has a character that cannot be sent",
                where=f"environment variable {KEY_VARIABLE}, in a cluster from the judge's secret",
                rule="a key is one line of printable ASCII",
                remedy=f"set it to the key alone: {SET_KEY}",
            )
        self._changes: set[Change] = set()
        self._pace = Pace(concurrency)

    @property
    def name(self) -> str:
        return f"the model {self.model} at an endpoint"

    @property
    def identity(self) -> str:
        """See components.grading.cases."""
        return hashlib.sha256("\n".join(("endpoint", self.url, self.model, RUBRIC)).encode()).hexdigest()

    @property
    def adaptations(self) -> list[str]:
        """How this endpoint had to be asked otherwise than planned, in plain words."""
        passed_over = {Change.JSON_OBJECT} if Change.NO_FORMAT in self._changes else set()
        return [change.words for change in Change if change in self._changes - passed_over]

    def verdicts(self, cases: Iterable[Case], on_verdict: OnVerdict = ignore) -> dict[Case, Verdict]:
        """A verdict on each case; `on_verdict` is called with each one as it comes, in this thread.

        The first request goes alone: a wrong address, key or name is found by it. What would hit all other cases ends
        the asking.

        Raises:
            Problems: one for every case that was asked about without a verdict, with the cause.
        """
        order = sorted(set(cases), key=dataclasses.astuple)
        random.Random(0).shuffle(order)  # noqa: S311 - an order, not a secret
        found: dict[Case, Verdict] = {}
        problems: list[Problem] = []
        with (
            self._client() as client,
            contextlib.closing(self._pace.outcomes(lambda case: self._ask(client, case), order)) as outcomes,
        ):
            for case, outcome in progress.track(outcomes, len(order), "answers graded"):
                if isinstance(outcome, Verdict):
                    found[case] = outcome
                    on_verdict(case, outcome)
                else:
                    problems.append(self._problem(case, outcome))
        unasked = len(order) - len(found) - len(problems)
        if unasked:
            problems[-1] = dataclasses.replace(
                problems[-1], what=f"{problems[-1].what}; {unasked} more answers have no verdict"
            )
        if problems:
            raise Problems(problems)
        return found

    def _ask(self, client: "openai.OpenAI", case: Case) -> Verdict | Failure:
        """One case's verdict; the request is changed until the endpoint takes it."""
        import openai

        # openai's client takes these from OPENAI_CUSTOM_HEADERS, OPENAI_ORG_ID and OPENAI_PROJECT_ID, set for OpenAI.
        headers = {
            "Accept-Encoding": "identity",
            "Authorization": f"Bearer {self.key}" if self.key else openai.omit,
            "OpenAI-Organization": openai.omit,
            "OpenAI-Project": openai.omit,
        }
        changes, replies = frozenset(self._changes), 0
        while True:
            try:
                body = Deadline(self.timeout_seconds).call(
                    lambda changes=changes: (  # type: ignore[misc]
                        client.chat.completions.with_raw_response.create(
                            **self._request(case, changes), extra_headers=headers
                        ).text
                    )
                )
            except openai.APIStatusError as error:
                if error.status_code in CONTENT and is_refused_content(error.body):
                    return Verdict(None, self._shown(words_of(error.body))[:MAX_REASON])
                change = next_change(error.body, changes) if error.status_code in CHANGEABLE else None
                if change is None:
                    return self._refused(error)
                changes |= {change}
                continue
            except (openai.APIError, OutOfTime) as error:
                return self._unreached(error)
            completion = read_completion(body)
            replies += 1
            if completion is not None:
                self._changes.update(changes)  # remembered only now: it was what the endpoint minded
                self._pace.answered = True
                if completion.verdict is not None:
                    reason = self._shown(completion.verdict.reason)[:MAX_REASON]
                    return Verdict(completion.verdict.right, reason)
                if completion.refusal:
                    return Verdict(None, self._shown(completion.refusal)[:MAX_REASON])
                if completion.cut:
                    more = set_option(EvaluationOptions, "judge_reply_tokens", min(65536, self.reply_tokens * 10))
                    cause = f"the reply was cut after {self.reply_tokens} tokens, before a verdict"
                    return Failure(cause=cause, remedy=f"give it more tokens: {more}")
            if replies == MAX_REPLIES:
                said = completion.text if completion else f"no chat completion: {words_of_reply(body)}"
                return Failure(
                    cause=f"{replies} replies without a verdict, the last: {self._shown(said) or 'no words'}",
                    remedy=RUN_AGAIN if completion else self._other_address(),
                    of_all=completion is None and not self._pace.answered,
                )

    def _request(self, case: Case, changes: Set[Change]) -> dict[str, Any]:
        messages = [{"role": "system", "content": RUBRIC}, {"role": "user", "content": as_json(case)}]
        if Change.NO_SYSTEM in changes:
            messages = [{"role": "user", "content": f"{RUBRIC}\n\nThe user's message:\n{as_json(case)}"}]
        limit = "max_completion_tokens" if Change.COMPLETION_TOKENS in changes else "max_tokens"
        request = {"model": self.model, "messages": messages, limit: self.reply_tokens}
        if Change.NO_TEMPERATURE not in changes:
            request["temperature"] = 0
        if Change.NO_FORMAT not in changes:
            schema = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": SCHEMA, "strict": True}}
            request["response_format"] = {"type": "json_object"} if Change.JSON_OBJECT in changes else schema
        return request

    def _refused(self, error: "openai.APIStatusError") -> Failure:
        """What a status says, in the endpoint's own words."""
        status, headers = error.status_code, error.response.headers
        cause = f"HTTP {status}: {self._shown(words_of(error.body)) or 'no words'}"
        if status in (401, 402, 403) or error.code == "insufficient_quota":
            remedy = f"a key that may use {quote(self.model)}: {SET_KEY}"
            return Failure(cause=cause, remedy=remedy, of_all=True)
        if status in (400, 404) and is_unknown_model(error.body):
            named = set_option(EvaluationOptions, "judge_model", "NAME")
            authorization = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if self.key else ""
            remedy = f"take a name that the endpoint lists, curl{authorization} {self.url.rstrip('/')}/models: {named}"
            return Failure(cause=cause, remedy=remedy, of_all=True)
        if status in WRONG_ADDRESS:
            return Failure(cause=cause, remedy=self._other_address(), of_all=True)
        if status in OVERLOADED:
            seconds = retry_after_seconds(headers)
            fewer = set_option(EvaluationOptions, "judge_concurrency", max(1, self._pace.most // 2))
            return Failure(
                cause=cause if seconds is None else f"{cause}; it asks to wait {progress.duration(seconds)}",
                remedy=f"run again later, nothing is trained twice; or ask less at a time: {fewer}",
                retries=MAX_PAUSES if (seconds or 0) <= MAX_RETRY_AFTER_SECONDS else 0,
                of_all=True,
                may_pass=True,
                overloaded=seconds is None,
                wait_seconds=seconds or 0.0,
            )
        if status in (408, 409) or status >= 500:
            return Failure(cause=cause, remedy=RUN_AGAIN, retries=RETRIES, may_pass=True)
        fewer = set_option(EvaluationOptions, "judge_reply_tokens", max(16, self.reply_tokens // 2))
        too_many = re.search(r"max_(completion_)?tokens", cause)
        remedy = f"ask for fewer tokens: {fewer}" if too_many else ANOTHER_JUDGE
        return Failure(cause=cause, remedy=remedy, of_all=not self._pace.answered)

    def _unreached(self, error: "openai.APIError | OutOfTime") -> Failure:
        import openai

        if isinstance(error, openai.APITimeoutError | OutOfTime):
            longer = set_option(
                EvaluationOptions, "judge_timeout_seconds", min(3600, int(self.timeout_seconds * 5) + 1)
            )
            cause = f"no reply within {self.timeout_seconds:g} s"
            return Failure(cause=cause, remedy=f"wait longer: {longer}", retries=RETRIES, may_pass=True)
        return Failure(
            cause=f"{type(error).__name__}, {self._shown(str(error.__cause__ or error.message))}",
            remedy=f"is the endpoint up, and does its address begin with {quote(self.url)}? {RUN_AGAIN}",
            retries=MAX_PAUSES if self._pace.answered else FIRST_PAUSES,
            of_all=True,
            may_pass=True,
        )

    def _other_address(self) -> str:
        given = self.url.rstrip("/")
        other = given.removesuffix("/chat/completions")
        if other == given:
            other = given.removesuffix("/v1") if given.endswith("/v1") else f"{given}/v1"
        line = set_option(EvaluationOptions, "judge_url", other)
        return f"does the endpoint's address end in /v1, as most do? for instance {line}"

    def _problem(self, case: Case, failure: Failure) -> Problem:
        return Problem(
            what=f"no verdict on an answer to {quote(case.question)}: {failure.cause}",
            where=f"judge {self.model} at {self.url}",
            rule=f"an answer is graded {' or '.join(VERDICTS)}; without a grade it is not a wrong answer",
            remedy=failure.remedy,
            may_pass=failure.may_pass,
        )

    def _client(self) -> "openai.OpenAI":
        import openai

        # Without retries: the pace is kept here, for all requests together. Without redirects: questions and answers
        # are for the host that was named.
        return openai.OpenAI(
            base_url=self.url,
            api_key=self.key or "none",
            timeout=self.timeout_seconds,
            max_retries=0,
            http_client=openai.DefaultHttpxClient(
                follow_redirects=False, event_hooks={"response": [bound_replies(MAX_REPLY_BYTES)]}
            ),
        )

    def _shown(self, text: str) -> str:
        """On one line, without the key, which goes before the text is cut, or a part of it stays."""
        for key in {self.key, json.dumps(self.key)[1:-1]} if self.key else ():
            text = text.replace(key, "[key]")
        return " ".join(progress.printable(text).split())[:MAX_WORDS]
