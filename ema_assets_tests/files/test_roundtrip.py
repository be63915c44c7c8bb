"""Tests that random bars written in a random style are read back unchanged."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_assets.files.options import ReadOptions
from ema_assets.files.reading import read
from ema_assets.model.errors import BarFileError
from ema_assets.model.schemas import BAR_SCHEMA

# A Monday. A day above 12 shows which number is the day.
FIRST = datetime(2024, 1, 15, tzinfo=UTC)
HEADS = (
    ("ts", "open", "high", "low", "close", "volume"),
    ("Date", "Open", "High", "Low", "Close", "Volume"),
    ("<DATE>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"),
    ("Open time", "Open price", "High price", "Low price", "Close price", "Shares Traded"),
    ("", "1. open", "2. high", "3. low", "4. close", "5. volume"),
    ("TIMESTAMP", "OPEN", "HIGH", "LOW", "LAST", "QTY"),
)
DATES = {
    "iso": "%Y-%m-%d %H:%M",
    "iso with seconds": "%Y-%m-%dT%H:%M:%S",
    "compact": "%Y%m%d %H%M%S",
    "one number": "%Y%m%d%H%M%S",
    "points": "%d.%m.%Y %H:%M",
    "day first": "%d/%m/%Y %H:%M",
    "month first": "%m/%d/%Y %I:%M:%S %p",
    "name of the month": "%d-%b-%Y %H:%M",
    "English": "%b %d, %Y %H:%M",
    "points, year first": "%Y.%m.%d %H:%M",
}
UNITS = {"s": 1, "ms": 10**3, "µs": 10**6, "ns": 10**9}
TITLES = ("", "Prices of KO", "Prices of KO\n\nExchange: somewhere, in 2024", "Report 2024-01-15")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")
Bar = tuple[datetime, float, float, float, float, float]


@dataclass(frozen=True)
class Style:
    """A style of writing a file."""

    delimiter: str
    decimal: str
    thousands: str
    head: tuple[str, ...]
    dates: str
    title: str
    encoding: str
    footer: str
    line_end: str

    def number(self, value: float, digits: int) -> str:
        text = f"{value:,.{digits}f}".replace(",", "T").replace(".", self.decimal)
        text = text.replace("T", self.thousands)
        return f'"{text}"' if self.delimiter in text else text

    def time(self, at: datetime) -> str:
        if self.dates in UNITS:
            return str(int(at.timestamp()) * UNITS[self.dates])
        if self.dates == "zoned":
            return at.isoformat()
        text = at.strftime(DATES[self.dates])
        return f'"{text}"' if self.delimiter in text else text

    def text(self, bars: list[Bar]) -> bytes:
        rows = [
            self.delimiter.join([self.time(at), *(self.number(price, 2) for price in prices), self.number(volume, 0)])
            for at, *prices, volume in bars
        ]
        lines = [*([self.title] if self.title else []), self.delimiter.join(self.head), *rows]
        lines += [self.footer] if self.footer else []
        return (self.line_end.join(lines) + self.line_end).encode(self.encoding)


@st.composite
def styles(draw: st.DrawFn) -> Style:
    decimal = draw(st.sampled_from([".", ","]))
    return Style(
        delimiter=draw(st.sampled_from([",", ";", "\t", "|"])),
        decimal=decimal,
        thousands=draw(st.sampled_from(["", ",", "'", " "] if decimal == "." else ["", ".", "'", " "])),
        head=draw(st.sampled_from(HEADS)),
        dates=draw(st.sampled_from([*DATES, *UNITS, "zoned"])),
        title=draw(st.sampled_from(TITLES)),
        encoding=draw(st.sampled_from(ENCODINGS)),
        footer=draw(st.sampled_from(["", "Source: an exchange", "(c) somebody"])),
        line_end=draw(st.sampled_from(["\n", "\r\n"])),
    )


@st.composite
def bars(draw: st.DrawFn) -> list[Bar]:
    """Draw bars five minutes apart, in any order, with prices of two decimals at scales from a cent to 20,000."""
    count = draw(st.integers(3, 30))
    scale = draw(st.sampled_from([1, 100, 10_000, 1_000_000]))
    found = []
    for number in range(count):
        cents = sorted(draw(st.lists(st.integers(max(1, scale // 2), scale * 2), min_size=4, max_size=4)))
        low, first, second, high = (each / 100 for each in cents)
        opened, closed = draw(st.sampled_from([(first, second), (second, first)]))
        volume = float(draw(st.integers(1, 10**9)))
        found.append((FIRST + number * timedelta(minutes=5), opened, high, low, closed, volume))
    return draw(st.permutations(found))


@pytest.mark.broad
@given(bars(), styles())
def test_bars_written_in_any_style_are_read_back_unchanged(given_bars: list[Bar], style: Style) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "KO_5m.csv"
        path.write_bytes(style.text(given_bars))
        found = read(path, ReadOptions())
    assert found.as_utc().rows() == [("KO", "5m", *bar) for bar in given_bars]
    is_certain = style.dates in UNITS or style.dates == "zoned"
    assert found.bars["ts"].null_count() == (0 if is_certain else len(given_bars))


@given(bars(), styles(), st.data())
def test_a_damaged_file_is_read_or_refused_in_one_sentence(
    given_bars: list[Bar], style: Style, data: st.DataObject
) -> None:
    content = style.text(given_bars)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        gone = data.draw(st.integers(0, 12))
        put = data.draw(
            st.sampled_from([b"", b'"', b",", b";", b"\n", b"\x00", b"NaN", b"1e999", b"T", b"Z", b"[", b"{", b"-"])
        )
        content = content[:at] + put + content[at + gone :]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "KO_5m.csv"
        path.write_bytes(content)
        refused = ""
        try:
            assert read(path, ReadOptions()).as_utc().schema == BAR_SCHEMA
        except BarFileError as error:
            refused = str(error)
    assert refused == "" or refused.startswith(f"{path}: ")
    assert "\n" not in refused
