"""CoinMarketCap: the historical data of one coin, a row per UTC day."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="CoinMarketCap",
    words=frozenset({"coinmarketcap"}),
    example=(
        "timeOpen;timeClose;timeHigh;timeLow;name;open;high;low;close;volume;marketCap;timestamp\n"
        "2024-01-02T00:00:00.000Z;2024-01-02T23:59:59.999Z;2024-01-02T14:37:00.000Z;2024-01-02T00:01:00.000Z;2781;"
        "44187.14;45899.71;44176.95;44957.97;39335274536.27;880650158126.63;2024-01-02T23:59:59.999Z"
    ),
    marks=frozenset({"time open", "time close", "time high", "time low", "market cap"}),
    # `name` has the number of the currency of the prices, such as 2781 for the dollar.
    columns={"ts": "time open", "symbol": ()},
    label="open",
    timeframe="1d",
    calendar="24/7",
    remark="The file does not say the symbol: `--symbol BTC-USD`. Its volume is in the currency of the prices.",
)
