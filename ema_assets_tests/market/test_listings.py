"""Tests of deriving a calendar from how a symbol is written: a hundred symbols as users type them, and unclear ones."""

import pytest

from ema_assets.market import listing_codes
from ema_assets.market.exchanges import known_calendars
from ema_assets.market.listing_codes import INDEX_NAMES, INDICES
from ema_assets.market.listings import listing_of, spelled_here, symbol_of
from ema_assets.model.errors import InvalidKeyError, UnclearSymbol

# Symbols as users type them, by calendar and class.
TYPED = {
    (
        "XNYS",
        "stocks",
    ): "AAPL T brk.b BRK-B BF/B SPY VFIAX TCEHY TSM BABA ASML NVO GBTC ABETH COMP LBRDK BAC-PL BAC.PRL BAC.PR.L AAPL.US AAPL.O IBM.N SPY.P GM.WI",
    ("XNYS", "indices"): "^GSPC ^DJI ^IXIC ^RUT ^VIX",
    ("XTSE", "stocks"): "SHOP.TO REI-UN.TO PNG.V",
    ("XLON", "stocks"): "AZN.L VOD.L BT-A.L VOD.UK SHEL.L HSBA.L BP.L",
    ("XLON", "indices"): "^FTSE",
    ("XETR", "stocks"): "SAP.DE VOW3.DE",
    ("XFRA", "stocks"): "SAP.F",
    ("XETR", "indices"): "^GDAXI ^STOXX50E",
    ("XPAR", "stocks"): "MC.PA",
    ("XPAR", "indices"): "^FCHI",
    ("XAMS", "stocks"): "ASML.AS",
    ("XSWX", "stocks"): "NESN.SW ROG.SW",
    ("XMIL", "stocks"): "ENEL.MI",
    ("XMAD", "stocks"): "SAN.MC",
    ("XSTO", "stocks"): "VOLV-B.ST",
    ("XCSE", "stocks"): "NOVO-B.CO",
    ("XOSL", "stocks"): "EQNR.OL",
    ("XHKG", "stocks"): "0700.HK 9988.HK",
    ("XTKS", "stocks"): "7203.T",
    ("XTKS", "indices"): "^N225",
    ("XSHG", "stocks"): "600519.SS 000001.SZ 002032.SZ",
    ("XKRX", "stocks"): "005930.KS 035720.KQ",
    ("XTAI", "stocks"): "2330.TW 6488.TWO",
    ("XSES", "stocks"): "D05.SI",
    ("XBOM", "stocks"): "RELIANCE.NS 500325.BO TCS.NS M&M.NS J&KBANK.NS",
    ("XASX", "stocks"): "CBA.AX",
    ("XJSE", "stocks"): "NPN.JO",
    ("BVMF", "stocks"): "VALE3.SA",
    ("CMES", "futures"): "ES=F GC=F CL=F 6E=F ESZ26 CLF2027",
    ("24/5", "fx"): "EURUSD=X JPY=X EURUSD EUR/USD EUR_USD EUR-USD USDJPY XAUUSD XAU/USD GBPCHF EURUSD.FOREX",
    (
        "24/7",
        "crypto",
    ): "BTC-USD BTC/USD BTCUSD BTCUSDT BTC_USDT OPUSDT 1000SATSUSDT ETHBTC BTC-GBP BTCEUR EURUSDT USDT-EUR "
    "ETHUSD.KRAKEN EURUSD.KRAKEN BTC-USD.CC EUR-USD.CC EUR-USDT BTC/USDT:USDT BTC-PERP BTC-USD-SWAP BTC-USDT-SWAP "
    "BTC-USDT-SWAP.OKX LINKUSD SOLUSDC DOGE-BTC LPTBTC SFDUSD TUSDT.BINANCE usdttry BTCUSDT.P BTC-PERPETUAL BTCUSD_PERP KRW-BTC",
}
CASES = [
    (symbol, calendar, asset_class) for (calendar, asset_class), symbols in TYPED.items() for symbol in symbols.split()
]


def test_there_are_at_least_a_hundred_symbols() -> None:
    assert len({symbol for symbol, _, _ in CASES}) >= 100


@pytest.mark.parametrize(("symbol", "calendar", "asset_class"), CASES)
def test_a_clear_symbol_has_a_class_and_a_calendar(symbol: str, calendar: str, asset_class: str) -> None:
    found = listing_of(symbol)
    assert (found.calendar, found.asset_class) == (calendar, asset_class)
    assert found.reason


# What other vendors write for what is written here: Bloomberg, Refinitiv, TradingView, Google, terminals, brokers.
ELSEWHERE = {
    "VOD.L": "VOD LN,LON:VOD,LSE:VOD,VOD.LON,VOD.XLON,VOD:LN",
    "BT-A.L": "LSE:BT.A,BT/A LN",
    "RR.L": "LSE:RR.,RR/ LN",
    "AAPL": "AAPL US Equity,NASDAQ:AAPL,AAPL.OQ,AAPL.NASDAQ",
    "BRK.B": "NYSE:BRK.B,BRK B",
    "BAC-PL": "BAC PRL,BAC^L,BAC-P-L",
    "SPAC-WT": "SPAC+",
    "SAP.DE": "XETR:SAP,ETR:SAP,SAP GR,SAP GY Equity,SAP.ETR",
    "NESN.SW": "NESN.S,NESN SW,SIX:NESN",
    "AGL.JO": "AGL.J,AGL SJ",
    "VOLV-B.ST": "OMXSTO:VOLV_B",
    "MC.PA": "MC FP,EPA:MC,MC.XPAR",
    "7203.T": "7203 JP Equity,TSE:7203,TYO:7203,7203.TSE",
    "0700.HK": "700 HK,HKEX:700,HKG:0700",
    "600519.SS": "600519 CH,SSE:600519,600519.SH,600519.XSHG,sh600519",
    "005930.KS": "KRX:005930,A005930,005930 KS",
    "RELIANCE.NS": "RELIANCE IN,NSE:RELIANCE",
    "^GSPC": ".SPX,SPX Index,US500,INDEXSP:.INX",
    "^DJI": "US30,.DJI,INDEXDJX:.DJI",
    "^GDAXI": "GER40,DE40,.GDAXI",
    "^STOXX50E": "^SX5E,SX5E,SX5E Index",
    "ES=F": "ES1!,CME_MINI:ES1!,/ES,@ES,ESc1,ES.c.0,ES_F,ES 03-26",
    "GC=F": "COMEX:GC1!,GC1!,GCc1",
    "ESH26": "ESH26.CME,/ESH26,CME_MINI:ESH26",
    "EURUSD": "EURUSD Curncy,EUR=,EUR.USD,EUR USD,FX:EURUSD,OANDA:EURUSD,C:EURUSD,EURUSDm,EURUSD.pro,EURUSD#",
    "USDJPY": "JPY=,OANDA:USDJPY",
    "XAUUSD": "XAU=,OANDA:XAUUSD,XAUUSDm",
    "BTCUSDT": "BINANCE:BTCUSDT,BTCUSDTPERP,BTCUSDT_260327",
    "BTCUSDT.P": "BYBIT:BTCUSDT.P",
    "BTCUSD": "X:BTCUSD,BTCUSD=X,tBTCUSD,BTCUSD:BITSTAMP",
    "XBTUSD": "XXBTZUSD,BITMEX:XBTUSD",
}


@pytest.mark.parametrize(
    ("here", "elsewhere"), [(here, each) for here, texts in ELSEWHERE.items() for each in texts.split(",")]
)
def test_the_spelling_of_another_vendor_is_refused_with_ours_which_is_clear(here: str, elsewhere: str) -> None:
    with pytest.raises(UnclearSymbol) as refused:
        listing_of(symbol_of(elsewhere))
    assert here == refused.value.spellings[0]
    assert f"; write {here}" in str(refused.value)
    assert listing_of(symbol_of(here)).calendar


def test_an_exchange_of_several_cities_is_refused_with_the_suffix_of_each() -> None:
    with pytest.raises(UnclearSymbol, match=r"; write ASML\.PA, ASML\.AS, ASML\.BR, ASML\.LS, ASML\.IR or ASML\.OL$"):
        listing_of("EURONEXT:ASML")


@pytest.mark.parametrize(
    ("text", "here"),
    [
        ("LSE:VOD", "VOD.L"),
        ("NASDAQ:AAPL", "AAPL"),
        ("VOD LN Equity", "VOD.L"),
        ("AAPL.OQ", "AAPL"),
        ("sh600519", "600519.SS"),
        ("BINANCE:BTCUSDT", "BTCUSDT"),
        ("C:EURUSD", "EURUSD"),
        # Clear, in several cities, or possibly another instrument.
        ("aapl", "aapl"),
        ("EURONEXT:ASML", "EURONEXT:ASML"),
        ("CBOE:VIX", "CBOE:VIX"),
        ("CAPITALCOM:US500", "CAPITALCOM:US500"),
        ("CME_MINI:ES1!", "CME_MINI:ES1!"),
        ("BTCUSDT_260327", "BTCUSDT_260327"),
        ("US500", "US500"),
        ("A|B", "A|B"),
    ],
)
def test_a_spelling_that_names_an_exchange_is_the_symbol_there(text: str, here: str) -> None:
    assert spelled_here(text) == here


def test_each_spelling_is_named_once() -> None:
    with pytest.raises(UnclearSymbol, match=r"; write XAUUSD$"):
        listing_of("XAUUSD=X")


def test_what_no_vendor_writes_is_no_symbol() -> None:
    with pytest.raises(InvalidKeyError, match="1 to 32 letters"):
        symbol_of("A|B")


@pytest.mark.parametrize(
    ("symbol", "sentence"),
    [
        ("HSI", "an index, and may be a ticker in the US; write ^HSI for the index"),
        (
            "GOLD",
            "a commodity, a future or an index elsewhere, and may be a ticker in the US; write GC=F for the future",
        ),
        ("NQ", "write NQ=F for the future, or give `--calendar XNYS` for the ticker"),
        ("FDAX", "say where it trades with `--calendar`"),
        ("SHIB", "a coin, and may be a ticker in the US; write SHIB-USD"),
        ("TRY", "write TRYUSD for its price in dollars"),
        ("TVC:DXY", "what DXY is at TVC is not known"),
        ("KGH.PL", "write KGH.WA or KGH-PL"),
        ("BTC.D", "no exchange is known by the suffix .D"),
        ("BTC", "a coin, and may be a ticker in the US; write BTC-USD for the coin, or give `--calendar XNYS`"),
        ("EUR", "a currency or a metal, and could be a ticker in the US; write EURUSD for its price in dollars"),
        ("XAU", "write XAUUSD for its price in dollars, or give `--calendar XNYS` for the ticker"),
        ("NIFTY", "an index, and may be a ticker in the US; write ^NSEI for the index, or give `--calendar XNYS`"),
        ("DAX", "write ^GDAXI for the index"),
        ("LSE:VOD", "written behind the symbol here; write VOD.L"),
        ("NASDAQ:AAPL", "write AAPL"),
        ("BINANCE:BTCUSDT", "write BTCUSDT"),
        ("MOON:VOD", "no exchange is known by the prefix MOON"),
        ("7203", "a number needs the suffix of its exchange"),
        ("600519", "600519.SS"),
        ("DX-Y.NYB", "no exchange is known by the suffix .NYB"),
        ("EURUSD.NYB", "no exchange is known by the suffix .NYB"),
        ("EUR-USD.NYB", "no exchange is known by the suffix .NYB"),
        ("USDT.KRAKEN", "no exchange is known by the suffix .KRAKEN"),
        ("^NOSUCH", "the exchange of this index is not known"),
        ("ZC=F", "the hours of the future ZC are not known"),
        ("ABCZ26", "no pair, index or future that is known"),
        ("=X", "two currencies, such as EURUSD=X"),
        ("APPLE=X", "two currencies, such as EURUSD=X"),
        ("ABCUSD", "no pair, index or future that is known"),
        ("AAPL260116C00200000", "too long for a US stock"),
        ("BTC/XYZW:ABC", "no pair, index or future that is known"),
        ("BTC-XYZW:ABC", "no pair, index or future that is known"),
        ("BTC-XYZW", "say where it trades with `--calendar`: 24/7 for crypto, 24/5 for foreign exchange"),
    ],
)
def test_an_unclear_symbol_is_refused_with_ways_to_write_it(symbol: str, sentence: str) -> None:
    with pytest.raises(UnclearSymbol, match=f"^{symbol.replace('^', chr(92) + '^')}: ") as refused:
        listing_of(symbol)
    assert sentence in str(refused.value)


def test_every_calendar_of_the_tables_is_known() -> None:
    chosen = {
        *listing_codes.CALENDAR_BY_SUFFIX.values(),
        *listing_codes.INDICES.values(),
        *listing_codes.FUTURES_BY_ROOT.values(),
    }
    assert chosen <= set(known_calendars())


def test_the_spelling_suggested_for_a_prefix_is_clear_itself() -> None:
    for prefix, suffixes in listing_codes.SUFFIXES_BY_PREFIX.items():
        with pytest.raises(UnclearSymbol) as refused:
            listing_of(f"{prefix}:VOD" if any(suffixes) else f"{prefix}:BTCUSDT")
        assert len(refused.value.spellings) == len(suffixes)
        for symbol in refused.value.spellings:
            assert listing_of(symbol).calendar


def test_the_spelling_suggested_for_the_name_of_an_index_is_known() -> None:
    assert set(INDEX_NAMES.values()) <= set(INDICES)
