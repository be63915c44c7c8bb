"""TradingView: the file of `Export chart data`, with columns of indicators after the prices."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="TradingView",
    words=frozenset(
        {
            "bats",
            "nasdaq",
            "nyse",
            "amex",
            "cboe",
            "binance",
            "coinbase",
            "kraken",
            "bitstamp",
            "bitfinex",
            "bybit",
            "okx",
            "kucoin",
            "gemini",
            "nse",
            "bse",
            "oanda",
            "fx",
            "fxcm",
            "forexcom",
            "tvc",
            "index",
            "capitalcom",
            "pepperstone",
            "sp",
            "dj",
            "ftse",
        }
    ),
    exchanges=frozenset(
        {
            *("LSE", "LSIN", "XETR", "FWB", "SWB", "EURONEXT", "MIL", "BME", "SIX", "OMXSTO", "OMXCOP", "OMXHEX"),
            *("OSL", "GPW", "BIST", "ATHEX", "VIE", "TASE", "TADAWUL", "JSE", "TSX", "TSXV", "BMV", "BMFBOVESPA"),
            *("BCBA", "BYMA", "BCS", "NSE", "BSE", "TSE", "HKEX", "SSE", "SZSE", "KRX", "TWSE", "TPEX", "SGX", "IDX"),
            *("MYX", "SET", "PSE", "PSX", "ASX", "NZX", "MOEX", "CME_MINI", "CME", "CBOT_MINI", "CBOT", "COMEX"),
            *("COMEX_MINI", "NYMEX", "NYMEX_MINI", "EUREX", "ICEEUR", "ICEUS", "CRYPTOCAP"),
        }
    ),
    example="time,open,high,low,close,Volume,EMA\n1704205800,187.15,187.70,186.90,187.02,5214335,186.5",
    marks=frozenset({"time", "open", "high", "low", "close"}),
    unless=frozenset({"date", "symbol", "timeframe"}),
    is_guessed=True,
    label="open",
    remark="Epochs in s or ISO times. Symbol and timeframe are in the name: `NASDAQ_AAPL, 5.csv`.",
)
