"""MetaStock's text files, which many programs and FX brokers write: names in angle brackets, dates as one number."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="MetaStock",
    words=frozenset({"metastock"}),
    example=(
        "<TICKER>,<PER>,<DTYYYYMMDD>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
        "AAPL,D,20240102,000000,187.15,188.44,183.885,185.64,82488674,0"
    ),
    marks=frozenset({"ticker", "dtyyyymmdd", "open", "high", "low", "close"}),
    columns={"date": "dtyyyymmdd"},
)
