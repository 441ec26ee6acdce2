"""The message as chat services want it: Slack's form, which Mattermost and Rocket.Chat take as well, and Teams'.

A step's error may hold anything that stands in data or comes from a model: it is shown as plain text, not as markup.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from components.notify.core import Outcome


def slack(outcome: "Outcome", run: str, link: str) -> dict[str, Any]:
    """An incoming webhook's payload (Slack: Formatting text for app surfaces)."""

    def plain(text: str) -> dict[str, Any]:
        return {"type": "plain_text", "text": text or " ", "emoji": False}

    def block(text: str) -> dict[str, Any]:
        return {"type": "section", "text": plain(text)}

    lines = [f"{name}: {value}" for name, value in outcome.facts.items()]
    blocks = [block(f"{_headline(outcome)}\n{outcome.title}"[:SLACK_BLOCK])]
    blocks += [block(text[:SLACK_BLOCK]) for text in (outcome.error, "\n".join([f"{run}", *lines])) if text]
    if link:
        button = {"type": "button", "text": plain("Open the run"), "url": link}
        blocks.append({"type": "actions", "elements": [button]})
    # `text` is what notifications show, and all that services without blocks do; its three special characters escaped.
    short = f"{_headline(outcome)}: {outcome.title}"
    for special, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        short = short.replace(special, escaped)
    return {"text": short, "blocks": blocks}


def teams(outcome: "Outcome", run: str, link: str) -> dict[str, Any]:
    """An Adaptive Card for a webhook of Teams' Workflows. Text runs, because text blocks and facts read Markdown."""

    def text(content: str, **style: Any) -> dict[str, Any]:
        return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": content, **style}]}

    color = "Attention" if outcome.failed else "Good"
    body = [text(_headline(outcome), weight="Bolder", size="Medium", color=color), text(outcome.title)]
    body += [text(outcome.error, fontType="Monospace")] if outcome.error else []
    body += [text(line) for line in (run, *(f"{name}: {value}" for name, value in outcome.facts.items()))]
    card: dict[str, Any] = {"type": "AdaptiveCard", "version": "1.4", "body": body}
    if link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open the run", "url": link}]
    return {
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
    }


SLACK_BLOCK = 3000  # characters that Slack takes in one block
FORMATS: dict[str, Callable[["Outcome", str, str], dict[str, Any]]] = {"slack": slack, "teams": teams}


def _headline(outcome: "Outcome") -> str:
    return "OSFT run failed" if outcome.failed else "OSFT run succeeded"
