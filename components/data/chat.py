"""The chat row, the one format that training and inference share; no other file knows it.

{"messages": [{"role": "system", "content": "You are an expert on the rule book."},
              {"role": "user", "content": "What colour is a master's sash?"},
              {"role": "assistant", "content": "A master's sash is crimson."}]}
"""

import json
import re
from typing import Any

from components.shared.problems import list_some, quote

Message = dict[str, str]

MESSAGES = "messages"
ROLES = ("system", "user", "assistant")
NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")  # NUL, and halves of a surrogate pair


def prompt(system_prompt: str, question: str) -> list[Message]:
    """The messages before the answer. An empty system prompt leaves the system message to the model's template."""
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [*system, {"role": "user", "content": question}]


def training_row(system_prompt: str, question: str, response: str) -> dict[str, Any]:
    """One training sample: the prompt and the answer to train on."""
    return {"messages": [*prompt(system_prompt, question), {"role": "assistant", "content": response}]}


def read_pair(messages: str) -> tuple[str, str, str]:
    """System message (empty without one), question and answer of messages as JSON, as others write them.

    Raises:
        ValueError: when they are not of one question and one answer; the text says why.
    """
    try:
        found = json.loads(messages)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, list) or not all(isinstance(message, dict) for message in found):
        raise ValueError(f"{MESSAGES} is no list of messages")
    roles = tuple(str(message.get("role")) for message in found)
    if roles not in (ROLES, ROLES[1:]):
        raise ValueError(f"its messages are of {list_some(map(quote, roles), 4) or 'nobody'}")
    texts = [message.get("content") for message in found]
    for role, text in zip(roles, texts, strict=True):
        if not isinstance(text, str) or NO_TEXT.search(text):
            raise ValueError(f"the content of {role} is no text")
    question, answer = texts[-2:]
    return texts[0] if len(texts) == len(ROLES) else "", question, answer


def check_row(row: Any) -> list[Message]:
    """The messages of a training row read from a file.

    Raises:
        ValueError: when it is not a chat row that ends with an assistant's answer; the text says why.
    """
    if not isinstance(row, dict) or not isinstance(row.get("messages"), list) or not row["messages"]:
        raise ValueError('not an object with a non-empty list "messages"')
    messages = row["messages"]
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ValueError(f"message {number} has no role out of {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            raise ValueError(f"message {number} ({message['role']}) has no text")
    if messages[-1]["role"] != "assistant":
        raise ValueError("the last message is not the assistant's")
    if not any(message["role"] == "user" for message in messages):
        raise ValueError("there is no user's message")
    return messages


def question_of(row: dict[str, Any]) -> str:
    """The (last) user message of a chat row."""
    return next(message["content"] for message in reversed(row["messages"]) if message["role"] == "user")
