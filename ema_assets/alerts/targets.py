"""The targets of one channel, such as three topics of ntfy, as services of Apprise that are notified one by one.

For a URL with several targets, Apprise reports that sending has failed, but not to which of them: the next attempt
would send the message again to targets that have it.
"""

import hashlib
from collections.abc import Iterator
from typing import Any


def targets(url: str, **options: Any) -> dict[str, Any]:
    """Return the services of `url` by a key that is the same in each process and reveals nothing; empty if unknown.

    There is one service per target if Apprise sends each target its own message; otherwise one for all of them.
    `options` are passed to `AppriseAsset`.
    """
    from apprise import Apprise, AppriseAsset

    whole = Apprise.instantiate(url, asset=AppriseAsset(**options))
    if whole is None:
        return {}
    single: list[Any] = [
        Apprise.instantiate({**parsed, "targets": [target]}, asset=AppriseAsset(**options))
        for parsed, target in _split(url, len(whole))
    ]
    if not single or not all(each is not None and len(each) == 1 for each in single):
        return {_key(whole): whole}
    for each in single:
        # A service's request limit holds for all of its targets together.
        each.throttle = whole.throttle
    return {_key(each): each for each in single}


def _split(url: str, requests: int) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield what Apprise parses from `url`, with each of its targets; nothing unless their number equals `requests`."""
    from apprise import plugins

    parse: Any = plugins.url_to_dict
    listed = (parse(url) or {}).get("targets")
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        return
    found = [part.strip() for each in listed for part in each.split(",") if part.strip()]
    if 1 < len(found) == requests:
        for target in found:
            # Plugins remove from it what they have read.
            yield parse(url), target


def _key(service: Any) -> str:
    # With its token: the hash of a telephone number alone could be guessed.
    return hashlib.sha256(service.url().encode()).hexdigest()[:16]
