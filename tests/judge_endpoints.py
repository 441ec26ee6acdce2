"""Endpoints as they are: what OpenAI, LiteLLM, vLLM, Ollama and others reply to what a judge asks, in their own words.

Each replies to a request by its body; beside it stands what must come of it: a verdict and what had to be changed, or
an error and what it says to do. The wording of errors is what users of these servers report.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from components.grading.endpoint_replies import Change
from tests.judge_server import HTML, RIGHT, Endpoint, Reply, completion, reply, says

Refusal = Callable[[dict[str, Any]], Reply | None]
JSON_OBJECT, NO_FORMAT, NO_TEMPERATURE, COMPLETION_TOKENS, NO_SYSTEM = Change
WRONG_JSON = '{"reason": "Red is not crimson.", "verdict": "wrong"}'
RIGHT_JSON = '{"reason": "It is.", "verdict": "right"}'


@dataclasses.dataclass(frozen=True)
class Expected:
    endpoint: Endpoint
    right: bool | None = True
    changes: Sequence[Change] = ()
    error: str = ""
    """A part of what is wrong; a verdict is expected without one."""
    remedy: str = ""
    requests: int = 1
    """Until the first case has its verdict, or the error is clear."""


def always(reply: Reply) -> Endpoint:
    return lambda body: reply


def error(status: int, message: str, code: Any = None, param: str | None = None, **more: Any) -> Reply:
    return Reply.of_json({"error": {"message": message, "type": "error", "param": param, "code": code, **more}}, status)


def vllm(message: Any, status: int = 400, **more: Any) -> Reply:
    return Reply.of_json({"object": "error", "message": message, "type": "BadRequestError", **more}, status)


def refusing(*refusals: Refusal, then: Reply = RIGHT) -> Endpoint:
    """The first refusal that holds is the reply, and without any a verdict."""
    return lambda body: next((found for refusal in refusals if (found := refusal(body))), then)


def without(name: str, refusal: Reply) -> Refusal:
    """Refuses a field, whatever its value."""
    return lambda body: refusal if name in body else None


def without_format(kind: str, refusal: Reply) -> Refusal:
    return lambda body: refusal if body.get("response_format", {}).get("type") == kind else None


def without_system(refusal: Reply) -> Refusal:
    return lambda body: refusal if body["messages"][0]["role"] == "system" else None


MAX_TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)
TEMPERATURE = (
    "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported."
)
FORMAT = "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."
FILTERED = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
MUST_ALTERNATE = "Conversation roles must alternate user/assistant/user/assistant/..."
GROUP = "Received Model Group=judge-model\nAvailable Model Group Fallbacks=None"


def litellm(kind: str, message: str, status: int = 400) -> Reply:
    """As LiteLLM's proxy wraps what its providers say: without a `param`, the status as a text."""
    return error(status, f"litellm.{kind}: {message} {GROUP}", str(status))


def forbidden(name: str) -> dict[str, Any]:
    """What pydantic says of a field that a server does not know, with what was sent."""
    sent = {"max_tokens": 400, "temperature": 0, "messages": [{"role": "system"}]}
    return {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted", "input": sent}


ENDPOINTS = {
    "OpenAI: takes all": Expected(always(RIGHT)),
    "OpenAI: a reasoning model": Expected(
        refusing(
            without("max_tokens", error(400, MAX_TOKENS, "unsupported_parameter", "max_tokens")),
            without("temperature", error(400, TEMPERATURE, "unsupported_value", "temperature")),
        ),
        changes=(NO_TEMPERATURE, COMPLETION_TOKENS), requests=3,
    ),
    "OpenAI: o1-mini": Expected(
        refusing(
            without_system(error(400, "Unsupported value: 'messages[0].role' does not support 'system' with this "
                                 "model.", "unsupported_value", "messages[0].role")),
            without("max_tokens", error(400, MAX_TOKENS, "unsupported_parameter", "max_tokens")),
        ),
        changes=(COMPLETION_TOKENS, NO_SYSTEM), requests=3,
    ),
    "OpenAI: a model from before schemas": Expected(
        refusing(without_format("json_schema", error(400, FORMAT, None, "response_format"))),
        changes=(JSON_OBJECT,), requests=2,
    ),
    "OpenAI: refuses to say": Expected(
        always(completion(None, message={"refusal": "I'm sorry, I can't assist with that."})), right=None,
    ),
    "OpenAI: prompt flagged": Expected(
        always(error(400, "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
                     "invalid_prompt")), right=None,
    ),
    "OpenAI: no quota": Expected(
        always(error(429, "You exceeded your current quota.", "insufficient_quota")),
        error="HTTP 429: You exceeded your current quota.", remedy="export JUDGE_API_KEY=KEY",
    ),
    "OpenAI: no such model": Expected(
        always(error(404, "The model `judge-model` does not exist, or you may not use it.", "model_not_found")),
        error="HTTP 404: The model `judge-model` does not exist", remedy="/v1/models: --judge-model NAME",
    ),
    "OpenAI: thinks until the limit": Expected(
        always(completion("", "length")),
        error="cut after 400 tokens", remedy="--judge-reply-tokens 4000 (on a cluster: evaluation_options=",
    ),
    "Azure: prompt filtered": Expected(
        always(error(400, FILTERED, "content_filter", "prompt", innererror={"code": "ResponsibleAIPolicyViolation"})),
        right=None,
    ),
    "Azure: reply filtered": Expected(always(completion(RIGHT_JSON, "content_filter")), right=None),
    "LiteLLM: a provider without formats": Expected(
        refusing(without("response_format", litellm(
            "UnsupportedParamsError", "ollama does not support parameters: ['response_format'], for model=judge-model."
        ))),
        changes=(NO_FORMAT,), requests=3,
    ),
    "LiteLLM: without format and temperature": Expected(
        refusing(
            without("response_format", litellm("UnsupportedParamsError", "watsonx does not support parameters: "
                                               "['response_format', 'temperature']")),
            without("temperature", litellm("UnsupportedParamsError", "watsonx does not support parameters: "
                                           "['temperature']")),
        ),
        changes=(NO_FORMAT, NO_TEMPERATURE), requests=4,
    ),
    "LiteLLM: GPT-5": Expected(
        refusing(without("temperature", litellm(
            "UnsupportedParamsError", "gpt-5 models don't support temperature=0.0. Only temperature=1 is supported. "
            "To drop unsupported params set `litellm.drop_params = True`"
        ))),
        changes=(NO_TEMPERATURE,), requests=2,
    ),
    "LiteLLM: OpenAI's error in its own": Expected(
        refusing(without("max_tokens", litellm(
            "BadRequestError", f'OpenAIException - Error code: 400 - {{"error": {{"message": "{MAX_TOKENS}"}}}}'
        ))),
        changes=(COMPLETION_TOKENS,), requests=2,
    ),
    "LiteLLM: content policy": Expected(
        always(litellm("BadRequestError", f"litellm.ContentPolicyViolationError: AzureException - {FILTERED}")),
        right=None,
    ),
    "LiteLLM: no such model": Expected(
        always(Reply.of_json({"error": {"message": "/chat/completions: Invalid model name passed in model=judge-model. "
                                        "Call `/v1/models` to view available models for your key."}}, 400)),
        error="Invalid model name passed in model=judge-model", remedy="--judge-model NAME",
    ),
    "LiteLLM: no budget": Expected(
        always(error(400, "Budget has been exceeded! Current cost: 1.2, Max budget: 1.0", "400")),
        error="HTTP 400: Budget has been exceeded! Current cost: 1.2", remedy="judge_model",
    ),
    "LiteLLM: a tool's arguments in place of content": Expected(
        always(completion(None, "tool_calls", {"tool_calls": [{"function": {"arguments": WRONG_JSON}}]})), right=False,
    ),
    "LiteLLM: content beside thoughts": Expected(
        always(completion(WRONG_JSON, message={"reasoning_content": RIGHT_JSON})), right=False,
    ),
    "vLLM: Gemma without a system's message": Expected(
        refusing(without_system(vllm("System role not supported", param=None, code=400))),
        changes=(NO_SYSTEM,), requests=2,
    ),
    "vLLM: Mistral without a system's message": Expected(
        refusing(without_system(vllm(MUST_ALTERNATE, code=None))), changes=(NO_SYSTEM,), requests=2,
    ),
    "vLLM: a schema that its grammar does not know": Expected(
        refusing(without_format("json_schema", vllm("The provided JSON schema contains features not supported by "
                                                    "xgrammar.", param=None, code=400))),
        changes=(JSON_OBJECT,), requests=2,
    ),
    "vLLM: an unknown field, among what was sent": Expected(
        refusing(without("response_format", vllm(str([forbidden("response_format")])))),
        changes=(NO_FORMAT,), requests=3,
    ),
    "vLLM: thoughts in the content": Expected(
        always(completion(f"So {RIGHT_JSON}? No.</think>\n\n{WRONG_JSON}")), right=False,
    ),
    "vLLM: all in the thoughts": Expected(
        always(completion(None, message={"reasoning_content": WRONG_JSON})), right=False,
    ),
    "vLLM: thoughts that were cut": Expected(
        always(completion(None, "length", {"reasoning_content": f"Perhaps {RIGHT_JSON}"})),
        error="cut after 400 tokens", remedy="--judge-reply-tokens 4000",
    ),
    "vLLM: a short context": Expected(
        always(vllm("'max_tokens' or 'max_completion_tokens' is too large: 400. This model's maximum context length is "
                    "512 tokens and your request has 300 input tokens.")),
        error="maximum context length is 512 tokens", remedy="--judge-reply-tokens 200", requests=2,
    ),
    "vLLM: another path": Expected(
        always(Reply.of_json({"detail": "Not Found"}, 404)), error='HTTP 404: {"detail": "Not Found"}',
        remedy="in /v1, as most do? for instance --judge-url http://127.0.0.1:",
    ),
    "Ollama: no such model": Expected(
        always(error(404, 'model "judge-model" not found, try pulling it first')),
        error='HTTP 404: model "judge-model" not found, try pulling it first', remedy="--judge-model NAME",
    ),
    "Ollama: another path": Expected(
        always(reply("404 page not found", "text/plain", status=404)),
        error="HTTP 404: 404 page not found", remedy="--judge-url",
    ),
    "Ollama: before schemas": Expected(
        refusing(without_format("json_schema", error(500, 'invalid format: expected "json" or a JSON schema'))),
        changes=(JSON_OBJECT,), requests=2,
    ),
    "Ollama: a fence and prose": Expected(
        always(completion(f"Sure!\n```json\n{WRONG_JSON}\n```\nI hope that helps {{you}}.")), right=False,
    ),
    "llama.cpp: a template that raises": Expected(
        refusing(without_system(error(500, "\n------------\nWhile executing CallExpression at line 19, column 27 in "
                                      f"source:\n... Error: Jinja Exception: {MUST_ALTERNATE}", 500))),
        changes=(NO_SYSTEM,), requests=2,
    ),
    "LM Studio: an error that is a text": Expected(
        refusing(without_format("json_schema", Reply.of_json({"error": "response_format.type must be 'text'"}, 400)),
                 without_format("json_object", Reply.of_json({"error": "response_format.type must be 'text'"}, 400))),
        changes=(NO_FORMAT,), requests=3,
    ),
    "Mistral: an unknown field, in a list": Expected(
        refusing(without("response_format", vllm({"detail": [forbidden("response_format")]}, 422, param=None))),
        changes=(NO_FORMAT,), requests=3,
    ),
    "Google: Gemma, an error in a list": Expected(
        refusing(without_system(Reply.of_json([{"error": {
            "code": 400, "message": "Developer instruction is not enabled for models/gemma-3-27b-it",
            "status": "INVALID_ARGUMENT",
        }}], 400))),
        changes=(NO_SYSTEM,), requests=2,
    ),
    "Google: content in parts": Expected(
        always(completion([{"type": "thinking", "thinking": RIGHT_JSON}, {"type": "text", "text": WRONG_JSON}])),
        right=False,
    ),
    "OpenRouter: moderation": Expected(
        always(error(403, "openai/gpt-4o requires moderation on OpenAI. Your input was flagged.", 403)), right=None,
    ),
    "OpenRouter: no such model": Expected(
        always(error(400, "judge-model is not a valid model ID", 400)),
        error="HTTP 400: judge-model is not a valid model ID", remedy="--judge-model NAME",
    ),
    "OpenRouter: its provider's words": Expected(
        always(error(401, "Provider returned error", 401, metadata={"raw": "no credit"})),
        error='Provider returned error {"metadata": {"raw": "no credit"}}', remedy="JUDGE_API_KEY",
    ),
    "OpenRouter: an error in a good reply": Expected(
        always(Reply.of_json({"error": {"message": "Internal Server Error", "code": 500}})),
        error="the last: no chat completion: Internal Server Error", remedy="--judge-url", requests=3,
    ),
    "a page for people": Expected(
        always(reply(HTML, "text/html")), error="no chat completion: <!doctype html>", remedy="--judge-url", requests=3,
    ),
    "a verdict in other letters": Expected(always(says(" Wrong ")), right=False),
    "a second thought": Expected(always(completion(f"{RIGHT_JSON}, or rather {WRONG_JSON}")), right=False),
}  # fmt: skip
