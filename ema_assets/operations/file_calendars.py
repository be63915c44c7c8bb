"""Calendars that fit a file whose symbols do not imply one, and what remains to be asked with each. No store."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from ema_assets.files.options import ReadOptions
from ema_assets.files.reading import BarsOfFile
from ema_assets.model.errors import AmbiguousBarFile, BarFileError, FileReading
from ema_assets.model.special_days import SpecialDays
from ema_assets.model.symbols import ALWAYS_OPEN, DEFAULT_CALENDAR, FROM_FILES, FX_CALENDAR, Instrument
from ema_assets.operations.ingest import understand

# A market that never closes fits everything, so it comes last.
_TRIED = (DEFAULT_CALENDAR, FX_CALENDAR, ALWAYS_OPEN)


def readings_by_calendar(
    source: BarsOfFile,
    known: Mapping[str, Instrument],
    unclear: Iterable[str],
    special_days: Mapping[str, SpecialDays],
    options: ReadOptions,
    now: datetime,
) -> Iterator[FileReading]:
    """Yield the ways to read the file if its `unclear` symbols trade on one of the usual calendars, likeliest first.

    `known` are the instruments of its other symbols.
    """
    for calendar in _TRIED:
        instruments = {**known, **{symbol: Instrument(symbol, calendar, FROM_FILES) for symbol in unclear}}
        answer = ("calendar", calendar)
        try:
            understand(source, instruments, special_days, options, now)
        except AmbiguousBarFile as error:
            # A reading with another calendar comes up when that calendar is tried.
            yield from (
                FileReading(each.evidence, (*each.answers, answer))
                for each in error.readings
                if "calendar" not in dict(each.answers)
            )
        except BarFileError:
            continue
        else:
            yield FileReading(f"its times fit the sessions of {calendar}", (answer,))
