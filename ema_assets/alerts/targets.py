"""The targets of one channel, such as three topics of ntfy, as services of Apprise that are told one by one.

Apprise says of a URL with several targets that it has failed, and not which of them: the next attempt would tell those
again that have the message.
"""

import hashlib
from collections.abc import Iterator
from typing import Any


def targets(url: str, **options: Any) -> dict[str, Any]:
    """The services of `url` by a key that is the same in each process and tells nothing; none when Apprise knows none.

    One per target, where Apprise sends each target a message of its own; otherwise one for all of them. `options` are
    those of an `AppriseAsset`.
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
        # How many requests a service allows holds for all of its targets together.
        each.throttle = whole.throttle
    return {_key(each): each for each in single}


def _split(url: str, requests: int) -> Iterator[tuple[dict[str, Any], str]]:
    """What Apprise reads in `url`, and each of its targets; nothing unless these are as many as its `requests`."""
    from apprise import plugins

    parse: Any = plugins.url_to_dict
    listed = (parse(url) or {}).get("targets")
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        return
    found = [part.strip() for each in listed for part in each.split(",") if part.strip()]
    if 1 < len(found) == requests:
        for target in found:
            # Plugins take out of it what they have read.
            yield parse(url), target


def _key(service: Any) -> str:
    # With its token: the hash of a telephone number alone could be guessed.
    return hashlib.sha256(service.url().encode()).hexdigest()[:16]
