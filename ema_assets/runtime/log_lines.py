"""One JSON object per line, for log collectors: what `up` says, and what its processes log."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime

JSON = "json"


def line(level: str, logger: str, message: str, at: datetime, **more: str) -> str:
    """Return one line: timestamp (UTC, ISO 8601), level, logger, message, and `more`."""
    content = {"timestamp": at.isoformat(timespec="milliseconds"), "level": level, "logger": logger, "message": message}
    return json.dumps({**content, **more}, ensure_ascii=False)


def speaker(log_format: str, print_line: Callable[[str], None], name: str = "ema_assets.up") -> Callable[[str], None]:
    """Return a function that prints the sentences of `name` in `log_format`.

    JSON omits blank lines, which are for people.
    """
    if log_format != JSON:
        return print_line

    def say(text: str) -> None:
        if text.strip():
            print_line(line("INFO", name, text.strip(), datetime.now(UTC)))

    return say


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object; an exception with its traceback, in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        more = {"exception": self.formatException(record.exc_info)} if record.exc_info else {}
        at = datetime.fromtimestamp(record.created, UTC)
        return line(record.levelname, record.name, record.getMessage(), at, **more)


def configure(log_format: str) -> None:
    """Log what this process logs, warnings and above, to stderr in `log_format`."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == JSON else text)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
