"""CryptoDataDownload: a line with its address, epochs and dates, volumes in both currencies."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="CryptoDataDownload",
    words=frozenset({"binance", "bitstamp", "bitfinex", "kraken", "gemini", "okx", "bybit"}),
    example=(
        "https://www.CryptoDataDownload.com\n"
        "Unix,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USDT,tradecount\n"
        "1704067200000,2024-01-01 00:00:00,BTCUSDT,42283.58,42554.57,42261.02,42475.23,1271.68,53957248.97,47134"
    ),
    marks=frozenset({"unix", "date", "symbol", "open", "close"}),
    columns={"volume": ("volume btc", "volume eth", "volume ltc", "volume xrp", "volume sol", "volume crypto")},
    zone="UTC",
    label="open",
)
