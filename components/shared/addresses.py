"""Addresses as text: may one hold a secret, and is it plain? Asked here, and nowhere else.

A secret is a user or password before the host, or a signature behind it, which services write in many ways:

    https://host/qa.csv?sv=1&sig=...    https://host/qa.csv;sig=...    s3://bucket/qa.csv%3FX-Amz-Signature%3D...
"""

import re
from urllib.parse import unquote, urlsplit

WEB_WITH_QUERY = re.compile(r"https?:[^\s]*[?#]", re.IGNORECASE)
USER = re.compile(r"[a-z][a-z0-9+.-]*:/+[^\s/?#]*@|^[^/\s]*:[^/\s]*@", re.IGNORECASE)
# In a glob ? stands for a character, also before a folder with = in its name: part?/year=2026.
NAME_WITH_VALUE = re.compile(r"[?;&#][^/?;&#=]*=")
MAX_UNQUOTED = 5  # times that an address may have been quoted over again


def may_hold_secret(text: str) -> bool:
    """Whether a text is an address with a user, a password, a query or a parameter, in whatever spelling."""
    for _ in range(MAX_UNQUOTED):
        text, before = unquote(text), text
        if text == before:
            break
    return any(pattern.search(text) for pattern in (WEB_WITH_QUERY, USER, NAME_WITH_VALUE))


def is_plain_address(url: str) -> bool:
    """Whether this is http:// or https:// with a host, and holds no secret."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # brackets or a port that cannot be
        return False
    whole = parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, url))
    return whole and not may_hold_secret(url)
