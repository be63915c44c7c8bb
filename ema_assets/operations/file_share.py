"""How much of a file could be stored, and if it is less than half, why and what would help. No store."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import polars as pl

from ema_assets.market.exchanges import exchange_sessions
from ema_assets.market.repair import DUPLICATE
from ema_assets.market.validation import NOT_CLOSED, OFF_GRID, OUTSIDE_SESSION, Validated, validate
from ema_assets.model.errors import AmbiguousBarFile, BarFileError, ConfigurationError, FileReading
from ema_assets.model.schemas import PRICES
from ema_assets.model.symbols import ALWAYS_OPEN, EXTENDED_CALENDARS, EXTENDED_SUFFIX, Instrument
from ema_assets.model.timeframes import Timeframe, by_key
from ema_assets.operations.file_sessions import AT_OPEN, TRIED_CALENDARS, fitting

_PARTLY = "with `--partial` what fits is stored and the rest skipped"
_SAMPLED_BARS = 400
_NEARLY_ALL = 95
# Up to this many times with several prices may be corrections, whatever the length of the file.
_CORRECTIONS = 2


def check_mostly_stored(
    bars: pl.DataFrame, instruments: Mapping[str, Instrument], sessions: pl.DataFrame, now: datetime
) -> None:
    """Check that at least half of `bars` (BAR_SCHEMA) of each timeframe are fit to be stored at `now`.

    Rows that repeat a time and its prices are one bar. If at least half of the times have several prices, the rows are
    from several instruments or several sources.

    Raises:
        AmbiguousBarFile: naming the most common reason, with what would help.
        BarFileError: naming that reason when there is nothing to choose.
    """
    by_symbol = pl.DataFrame(
        [(each.symbol, each.calendar, each.allow_negative) for each in instruments.values()],
        schema={"symbol": pl.String, "calendar": pl.String, "allow_negative": pl.Boolean},
        orient="row",
    )
    for (key,), part in bars.partition_by("timeframe", as_dict=True, maintain_order=True).items():
        timeframe = by_key(str(key))
        part = part.unique(["symbol", "ts", *PRICES], keep="last", maintain_order=True)  # noqa: PLW2901
        sound = validate(part, timeframe, by_symbol, sessions, now)
        _check_one_price(part, sound, timeframe)
        if sound.accepted.height * 2 >= part.height:
            continue
        refused = pl.concat([sound.rejected, sound.skipped])
        reason, count = (
            refused["reason"].value_counts(sort=True, name="n").sort("n", "reason", descending=[True, False]).row(0)
        )
        shown = refused.filter(pl.col("reason") == reason)
        cause = _cause(reason, shown, instruments)
        message = f"{count} of its {part.height} {timeframe.key} bars could not be stored: {cause}"
        readings = list(_readings(part, by_symbol)) if reason == OUTSIDE_SESSION else []
        if sound.accepted.is_empty() and not readings:
            raise BarFileError(message)
        if not sound.accepted.is_empty():
            readings.append(FileReading(_PARTLY, (("partial", ""),)))
        raise AmbiguousBarFile(message, readings)


def _check_one_price(part: pl.DataFrame, sound: Validated, timeframe: Timeframe) -> None:
    repeated = sound.rejected.filter(pl.col("reason") == DUPLICATE).select("symbol", "ts").unique().sort("symbol", "ts")
    times = part.select("symbol", "ts").n_unique()
    if repeated.height <= _CORRECTIONS or repeated.height * 2 < times:
        return
    raise AmbiguousBarFile(
        f"{repeated.height} of its {times} {timeframe.key} times have several rows with different prices, such as "
        f"{repeated['ts'][0]:%Y-%m-%d %H:%M} UTC, so it may hold several instruments: give one file per instrument, or "
        "a column `symbol`",
        [FileReading("with `--partial` the last row of each time is stored", (("partial", ""),))],
    )


def _cause(reason: str, shown: pl.DataFrame, instruments: Mapping[str, Instrument]) -> str:
    first = shown["ts"].drop_nulls().head(1).to_list()
    such_as = f", such as {first[0]:%Y-%m-%d %H:%M} UTC" if first else ""
    match reason:
        case _ if reason == OUTSIDE_SESSION:
            own = " and ".join(sorted({instruments[symbol].calendar for symbol in shown["symbol"].unique()}))
            return f"they lie outside the sessions of {own}{such_as}"
        case _ if reason == OFF_GRID:
            return f"their times lie between two bars{such_as}"
        case _ if reason == NOT_CLOSED:
            return f"their times lie in the future{such_as}"
    return f"{reason}{such_as}"


def _readings(part: pl.DataFrame, by_symbol: pl.DataFrame) -> Iterator[FileReading]:
    """Yield calendars that fit nearly all of a sample: with extended hours, of other exchanges, or always open.

    At least one bar of `part` has a time.
    """
    sample = part.drop_nulls("ts").tail(_SAMPLED_BARS)
    own = set(by_symbol["calendar"])
    extended = [f"{each}{EXTENDED_SUFFIX}" for each in EXTENDED_CALENDARS if each in own]
    others = [each for each in TRIED_CALENDARS if each not in own]
    # Everything fits a market that never closes, so it is tried last.
    for group in (extended, others, [ALWAYS_OPEN]):
        fits = [(_share(sample, each), each) for each in group]
        best = max(fits, default=(0, ""))[0]
        if best >= _NEARLY_ALL:
            for share, each in [fit for fit in fits if fit[0] == best][:2]:
                many = "all" if share == 100 else f"{share} of 100"
                yield FileReading(f"{many} of its times fit the sessions of {each}", (("calendar", each),))
            return


def _share(sample: pl.DataFrame, calendar: str) -> int:
    """Return the percentage of times of `sample` that are times of bars of `calendar`, rounded down."""
    low, high = sample["ts"].min(), sample["ts"].max()
    assert isinstance(low, datetime)
    assert isinstance(high, datetime)
    margin = timedelta(days=3)
    try:
        sessions = exchange_sessions(calendar, (low - margin).date(), (high + margin).date())
    except ConfigurationError:
        return 0
    times = sample.select(pl.lit(calendar).alias("calendar"), "timeframe", at="ts")
    return int(fitting(times, sessions, AT_OPEN).sum()) * 100 // sample.height
