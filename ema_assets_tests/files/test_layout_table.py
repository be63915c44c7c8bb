"""Tests that the table of layouts in docs/DATA.md equals the declared layouts."""

from pathlib import Path

from ema_assets.files.declaration import BY_NAME, Layout
from ema_assets.files.discovery import discover

PAGE = Path(__file__).parents[2] / "docs" / "DATA.md"
MOST_CHARACTERS = 64


def _row(layout: Layout) -> str:
    lines = [line for line in layout.example.splitlines() if not line.startswith("https:")]
    begin = lines[0].replace("\t", " ")
    if len(begin) > MOST_CHARACTERS:
        begin = begin[: MOST_CHARACTERS - 1].rstrip()
        # Quotes stay in pairs, because code of the pages is parsed like shell code.
        begin = (begin if begin.count('"') % 2 == 0 else begin[: begin.rindex('"')]) + "…"
    facts = [
        f"Times without a zone: {layout.zone}." if layout.zone else "",
        f"Calendar {layout.calendar}." if layout.calendar else "",
        f"Always {layout.timeframe}." if layout.timeframe else "",
        layout.remark,
    ]
    return f"| {layout.name} | `{begin}` | {' '.join(filter(None, facts))} |"


def table() -> str:
    """Return the table that the page must have."""
    head = ["| layout | a file begins with | what to know |", "|---|---|---|"]
    return "\n".join([*head, *(_row(layout) for layout in [BY_NAME, *discover()])])


def test_the_page_lists_every_layout_as_declared() -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), f"{PAGE} must hold:\n{table()}"
