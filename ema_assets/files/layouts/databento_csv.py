"""Databento: bars of its API as CSV or Parquet, with prices as decimals or in billionths."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="Databento",
    words=frozenset({"databento", "xnas", "itch", "glbx", "mdp3", "dbeq"}),
    example=(
        "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol\n"
        "1704205800000000000,33,2,32,187150000000,187440000000,187030000000,187320000000,514449,AAPL"
    ),
    marks=frozenset({"ts event", "rtype", "publisher id", "instrument id"}),
    columns={"ts": "ts event"},
    price_decimals=9,
    label="open",
    remark="Prices without a decimal point are billionths. A file without `symbol` needs `--symbol`.",
)
