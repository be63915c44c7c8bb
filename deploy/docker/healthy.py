"""Whether a service of a container answers: `healthy.py http://HOST:PORT/PATH` or `healthy.py tcp://HOST:PORT`.

It imports the standard library alone: a health check that imports Dagster costs two seconds of processor time each.
"""

import socket
import sys
import urllib.error
import urllib.request
from urllib.parse import urlsplit

_SECONDS = 4.0


def problem(url: str) -> str | None:
    """Why the service at `url` is not healthy."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "tcp":
            socket.create_connection((str(parts.hostname), int(parts.port or 0)), _SECONDS).close()
            return None
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 - from the image and compose.yaml
            return None if answer.status == 200 else f"{url} answers {answer.status}"
    except (OSError, urllib.error.URLError) as error:
        return f"{url}: {error}"


if __name__ == "__main__":
    sys.exit(problem(sys.argv[1]))
