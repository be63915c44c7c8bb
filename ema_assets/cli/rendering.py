"""How results look: tables, progress, numbers, times and JSON. The commands decide what is shown.

On a terminal, tables fit its width and colours mark what deserves attention. In a file or a pipe, the same tables have
all columns, and colours only if FORCE_COLOR is set.
"""

import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, TextIO

import click

from ema_assets.model.prices import percent_text, price_text
from ema_assets.model.timeframes import Timeframe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_INDENT = "  "
# Stands for columns that a terminal has no room for.
_MORE = "…"
# Texts of a terminal that is too narrow are cut to no fewer characters. Numbers and times are shorter.
_LEAST_TEXT = 24
# Where JSON goes while stdout is for nothing else; None for stdout.
_json_to: ContextVar[TextIO | None] = ContextVar("_json_to", default=None)
# Keyed by the words of a cell.
_STYLES: Mapping[str, str] = {
    "up": "green",
    "long": "green",
    "fresh": "green",
    "down": "red",
    "short": "red",
    "failing": "bold red",
    "stale": "yellow",
    "to load": "cyan",
}


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, kept: Collection[str] = (), continues: bool = False
) -> None:
    """Print `rows` below `head`, each column as wide as its widest cell.

    On a terminal that is too narrow, long texts are cut, but not those of the first column. Where this is not enough,
    the last columns but those of `kept` are left out, too; a line below names them. With `continues`, they follow in
    further tables, which begin with the same first column.
    """
    needed = _widths(head, rows)
    console = _console(sum(needed) + len(_INDENT) * len(needed))
    if console is None:
        for line in _lines(head, rows):
            click.echo(line)
        return
    from rich.text import Text

    fixed = [column for column, name in enumerate(head) if column == 0 or name in kept]
    shown_columns = _columns_that_fit(_narrowed(needed, console.width), console.width, fixed)
    rest = [column for column in range(len(head)) if column not in shown_columns]
    widths = _narrowed([needed[column] for column in shown_columns], console.width)
    cells = [[row[column] for column in shown_columns] for row in [head, *rows]]
    top, *lines = _lines(cells[0], [tuple(map(_cut, row, widths)) for row in cells[1:]])
    # Words of the first column, such as "rolled up", say nothing about its row.
    named = len(_INDENT) + max(len(row[0]) for row in [head, *rows])
    shown = [Text(top, "bold"), *(Text.assemble(line[:named], _coloured(line[named:])) for line in lines)]
    if rest and not continues:
        left_out = ", ".join(head[column] for column in rest if head[column])
        shown.append(Text(f"{_INDENT}{_MORE} no room for {left_out}", "dim"))
    for text in shown:
        console.print(text, no_wrap=True, overflow="ellipsis")
    if rest and continues:
        click.echo("")
        following, *more = [[row[column] for column in (0, *rest)] for row in [head, *rows]]
        print_table(following, more, continues=True)


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = _widths(head, rows)
    return [
        _INDENT + _INDENT.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]


def _widths(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]


def _narrowed(widths: Sequence[int], room: int) -> list[int]:
    """Return `widths` with long texts cut until all columns fit into `room`, as far as this is possible."""
    narrowed = list(widths)
    while len(narrowed) > 1 and sum(narrowed) + len(_INDENT) * len(narrowed) > room:
        widest = max(range(1, len(narrowed)), key=narrowed.__getitem__)
        if narrowed[widest] <= _LEAST_TEXT:
            break
        narrowed[widest] -= 1
    return narrowed


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: width - 1].rstrip()}{_MORE}"


def _columns_that_fit(widths: Sequence[int], room: int, fixed: Sequence[int]) -> list[int]:
    """Return the columns that fit into `room` when the last ones that are not `fixed` are left out; at least two."""
    columns = list(range(len(widths)))
    while len(columns) > 2 and sum(widths[column] + len(_INDENT) for column in columns) > room:
        columns.remove(max((column for column in columns if column not in fixed), default=columns[-1]))
    return columns


def _coloured(line: str) -> "Text":
    from rich.text import Text

    text = Text(line)
    for words, style in _STYLES.items():
        text.highlight_regex(rf"(?<![\w-]){words}(?![\w-])", style)
    text.highlight_regex(r"(?<!\S)\+\d[\d.]* %", "green")
    text.highlight_regex(r"(?<!\S)-\d[\d.]* %", "red")
    return text


def _console(needed: int) -> "Console | None":
    """Return a console, without colours if NO_COLOR is set; None when the output is to be plain text.

    With FORCE_COLOR a file or a pipe gets colours, too. It is as wide as `needed`.
    """
    is_wanted = bool(os.environ.get("FORCE_COLOR")) and "NO_COLOR" not in os.environ
    # A program that was started with a closed output has none.
    if sys.stdout is None or not (sys.stdout.isatty() or is_wanted):
        return None
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=max(needed, 1))


def print_cells(lines: Sequence[Sequence[tuple[str, str]]], styles: Mapping[str, str]) -> None:
    """Print `lines` of text pieces with their roles, which `styles` colours on a terminal."""
    console = _console(max((sum(len(text) for text, _ in line) for line in lines), default=0))
    if console is None:
        for line in lines:
            click.echo("".join(text for text, _ in line).rstrip())
        return
    from rich.text import Text

    for line in lines:
        # Neighbours of one role share their escape sequences: one each would be as long as the chart itself.
        runs = ((role, "".join(text for text, _ in pieces)) for role, pieces in groupby(line, lambda piece: piece[1]))
        console.print(
            Text.assemble(*((text, styles.get(role, "")) for role, text in runs)), no_wrap=True, overflow="crop"
        )


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar on a terminal while a command works. Yield a function to be called with each step's name."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        *(TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()),
        TextColumn("{task.description}", markup=False),
    )
    # What the command prints meanwhile appears above the bar, unless it goes to a file.
    above = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=above) as bar:
        task = bar.add_task("", total=total)
        yield lambda step: bar.update(task, advance=1, description=step)


@contextmanager
def only_json() -> Iterator[None]:
    """Print only JSON to stdout in the block: own signals and rules may print, and that goes to stderr."""
    token = _json_to.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _json_to.reset(token)


def print_json(value: object, indent: int | None = 2) -> None:
    """Print `value` as JSON, times in ISO 8601."""
    click.echo(json.dumps(value, indent=indent, default=_json_time), file=_json_to.get())


def _json_time(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"`value` must be a time, received {value!r}")


def cell(value: object) -> str:
    """Return any value of a result as the cell of a table; empty for None."""
    if isinstance(value, datetime):
        return minute(value)
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def price(value: float | None) -> str:
    """Return a price in the usual format; empty for None."""
    return "" if value is None else price_text(value)


def minute(moment: datetime) -> str:
    """Return a time to the minute; the caller says that it is UTC."""
    return f"{moment:%Y-%m-%d %H:%M}"


def percent(value: float | None) -> str:
    """Return a share in percent with its sign, such as `+0.31 %`; empty for None."""
    return "" if value is None else percent_text(value)


def timeframe_key(timeframe: Timeframe) -> str:
    """Return a timeframe as it is written on the command line, such as `5m`."""
    return timeframe.key
