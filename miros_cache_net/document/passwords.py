"""Files of older programs contain every broker's password; this module removes it before any reader sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

#: The key under which older programs keep their brokers' URLs.
_URLS_KEY: Final = "amqp_urls"
#: Greedy: those programs do not percent-encode, so a password may contain any character; no host, path or option
#: contains an "@".  The user name ends at the first colon.
_PASSWORD: Final = re.compile(r"^(\s*[a-z]+://[^:]*):.*@", re.DOTALL | re.IGNORECASE)


def without_passwords(contents: Mapping[str, Any]) -> dict[str, Any]:
    """The same contents, but the URLs in `amqp_urls` have no passwords."""
    kept = dict(contents)
    urls = kept.get(_URLS_KEY)
    if isinstance(urls, list | tuple):
        kept[_URLS_KEY] = [_PASSWORD.sub(r"\1@", url) if isinstance(url, str) else url for url in urls]
    return kept
