"""Stooq: text files of its database, and the download of its web pages, with Polish or common column names."""

from ema_assets.files.declaration import Layout

# Stooq's suffixes of markets, and the usual ones.
_SUFFIXES = {".US": "", ".UK": ".L", ".JP": ".T", ".HK": ".HK", ".DE": ".DE"}


def usual_symbol(text: str) -> str:
    """Return Stooq's symbol as most vendors write it: AAPL for `AAPL.US`, VOD.L for `VOD.UK`."""
    upper = text.upper()
    for suffix, usual in _SUFFIXES.items():
        if upper.endswith(suffix):
            return upper.removesuffix(suffix) + usual
    return upper


LAYOUTS = (
    Layout(
        name="Stooq",
        words=frozenset({"stooq"}),
        example=(
            "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
            "AAPL.US,D,20240102,000000,187.15,188.44,183.885,185.64,82488674,0"
        ),
        marks=frozenset({"ticker", "per", "date", "time", "openint"}),
        zones=("Europe/Warsaw",),
        symbol=usual_symbol,
        remark="`AAPL.US` becomes AAPL, `VOD.UK` VOD.L. Times are usually Warsaw's; the sessions decide.",
    ),
    Layout(
        name="Stooq, in Polish",
        example="Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen\n2024-01-02,187.15,188.44,183.885,185.64,82488674",
        marks=frozenset({"data", "otwarcie", "najwyzszy", "najnizszy", "zamkniecie"}),
        columns={
            "date": "data",
            "time": "czas",
            "open": "otwarcie",
            "high": "najwyzszy",
            "low": "najnizszy",
            "close": "zamkniecie",
            "volume": "wolumen",
        },
        zones=("Europe/Warsaw",),
        symbol=usual_symbol,
    ),
)
