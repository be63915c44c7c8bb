"""How results look: tables, numbers, times and JSON. What is shown is up to the commands."""

import json
from collections.abc import Sequence
from datetime import datetime

import click

from ema_assets.model.timeframes import Timeframe

_INDENT = "  "


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print `rows` below `head`, each column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(_INDENT + _INDENT.join(cells).rstrip())


def print_json(value: object) -> None:
    """Print `value` as indented JSON, times in ISO 8601."""
    click.echo(json.dumps(value, indent=2, default=_json_time))


def _json_time(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"`value` must be a time, received {value!r}")


def cell(value: object) -> str:
    """Any value of a result as the cell of a table; nothing for None."""
    if isinstance(value, datetime):
        return minute(value)
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def minute(moment: datetime) -> str:
    """A time to the minute; whoever prints it says that it is UTC."""
    return f"{moment:%Y-%m-%d %H:%M}"


def percent(value: float | None) -> str:
    """A share in percent with its sign, such as `+0.31 %`; nothing for None."""
    return "" if value is None else f"{value:+.2f} %"


def timeframe_key(timeframe: Timeframe) -> str:
    """A timeframe as it is written on the command line, such as `5m`."""
    return timeframe.key
