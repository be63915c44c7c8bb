"""Vendors' codes: suffixes and prefixes of exchanges, indices, currencies, coins, roots of futures. Only data.

Suffixes are those of Yahoo, Stooq and EODHD where they agree; calendars are codes of exchange_calendars. An exchange
that the library lacks has the calendar of one with the same days and hours: Shenzhen that of Shanghai, NSE that of BSE.
"""

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CALENDAR_BY_SUFFIX: Final = {
    # The Americas
    **dict.fromkeys(("US",), "XNYS"),
    **dict.fromkeys(("TO", "V", "CN", "NE"), "XTSE"),
    "MX": "XMEX",
    "SA": "BVMF",
    "BA": "XBUE",
    "SN": "XSGO",
    # Europe
    **dict.fromkeys(("L", "IL", "UK", "LSE"), "XLON"),
    "IR": "XDUB",
    "PA": "XPAR",
    "AS": "XAMS",
    "BR": "XBRU",
    "LS": "XLIS",
    **dict.fromkeys(("DE", "XETRA"), "XETR"),
    "F": "XFRA",
    "DU": "XDUS",
    "HM": "XHAM",
    "SG": "XSTU",
    **dict.fromkeys(("SW", "VX"), "XSWX"),
    "VI": "XWBO",
    "MI": "XMIL",
    "MC": "XMAD",
    "ST": "XSTO",
    "CO": "XCSE",
    "HE": "XHEL",
    "OL": "XOSL",
    "IC": "XICE",
    "WA": "XWAR",
    "PR": "XPRA",
    "BD": "XBUD",
    "AT": "ASEX",
    "IS": "XIST",
    "TL": "XTAL",
    "RG": "XRIS",
    "VS": "XLIT",
    # Africa and the Middle East
    "JO": "XJSE",
    "TA": "XTAE",
    "SR": "XSAU",
    # Asia and the Pacific
    **dict.fromkeys(("T", "JP"), "XTKS"),
    "HK": "XHKG",
    **dict.fromkeys(("SS", "SZ", "SHG", "SHE"), "XSHG"),
    **dict.fromkeys(("KS", "KQ", "KO"), "XKRX"),
    **dict.fromkeys(("TW", "TWO"), "XTAI"),
    "SI": "XSES",
    **dict.fromkeys(("NS", "BO", "NSE", "BSE"), "XBOM"),
    "BK": "XBKK",
    "JK": "XIDX",
    "KL": "XKLS",
    "PS": "XPHS",
    "KA": "XKAR",
    "AX": "XASX",
    "NZ": "XNZE",
}

# The prefixes of exchanges at TradingView and Google, and the corresponding suffixes here.
SUFFIX_BY_PREFIX: Final = {
    **dict.fromkeys(("NASDAQ", "NYSE", "AMEX", "NYSEARCA", "NYSEAMERICAN", "ARCA", "BATS", "OTC"), ""),
    **dict.fromkeys(("LSE", "LON"), ".L"),
    **dict.fromkeys(("TSX", "TSE_CA"), ".TO"),
    **dict.fromkeys(("XETR", "ETR"), ".DE"),
    **dict.fromkeys(("EURONEXT", "EPA"), ".PA"),
    "AMS": ".AS",
    **dict.fromkeys(("SIX", "SWX"), ".SW"),
    **dict.fromkeys(("TSE", "TYO"), ".T"),
    **dict.fromkeys(("HKEX", "HKG"), ".HK"),
    **dict.fromkeys(("SSE", "SHA"), ".SS"),
    **dict.fromkeys(("SZSE", "SHE"), ".SZ"),
    **dict.fromkeys(("KRX", "KOSPI"), ".KS"),
    "NSE": ".NS",
    **dict.fromkeys(("BSE", "BOM"), ".BO"),
    "ASX": ".AX",
    "SGX": ".SI",
    "TWSE": ".TW",
    **dict.fromkeys(("OMXSTO", "STO"), ".ST"),
    **dict.fromkeys(("BINANCE", "COINBASE", "KRAKEN", "BITSTAMP", "BYBIT", "OKX", "BITFINEX", "GEMINI", "KUCOIN"), ""),
}

INDICES: Final = {
    **dict.fromkeys(("^GSPC", "^SPX", "^DJI", "^IXIC", "^NDX", "^RUT", "^NYA", "^XAX", "^VIX", "^SOX"), "XNYS"),
    **dict.fromkeys(("^TNX", "^IRX", "^FVX", "^TYX", "^W5000", "^OEX", "^MID"), "XNYS"),
    "^GSPTSE": "XTSE",
    "^MXX": "XMEX",
    "^BVSP": "BVMF",
    "^MERV": "XBUE",
    "^FTSE": "XLON",
    "^FTMC": "XLON",
    **dict.fromkeys(("^GDAXI", "^MDAXI", "^TECDAX", "^STOXX50E", "^STOXX"), "XETR"),
    "^FCHI": "XPAR",
    "^AEX": "XAMS",
    "^BFX": "XBRU",
    "^IBEX": "XMAD",
    "^SSMI": "XSWX",
    "^ATX": "XWBO",
    "^OMX": "XSTO",
    "^OMXC25": "XCSE",
    "^OMXH25": "XHEL",
    **dict.fromkeys(("^N225", "^TPX"), "XTKS"),
    **dict.fromkeys(("^HSI", "^HSCE", "^HSTECH"), "XHKG"),
    **dict.fromkeys(("^KS11", "^KQ11", "^KS200"), "XKRX"),
    "^TWII": "XTAI",
    "^STI": "XSES",
    **dict.fromkeys(("^BSESN", "^NSEI", "^NSEBANK", "^CNX100"), "XBOM"),
    "^JKSE": "XIDX",
    "^KLSE": "XKLS",
    "^SET": "XBKK",
    "^PSEI": "XPHS",
    **dict.fromkeys(("^AXJO", "^AORD"), "XASX"),
    "^NZ50": "XNZE",
}
# Common names of indices outside the US. All of them could be tickers in the US, and some are.
INDEX_NAMES: Final = {
    "AXJO": "^AXJO",
    "BVSP": "^BVSP",
    "CAC": "^FCHI",
    "DAX": "^GDAXI",
    "FCHI": "^FCHI",
    "FTSE": "^FTSE",
    "GDAXI": "^GDAXI",
    "IBEX": "^IBEX",
    "KOSPI": "^KS11",
    "N225": "^N225",
    "NIFTY": "^NSEI",
    "NIKKEI": "^N225",
    "NSEI": "^NSEI",
    "SENSEX": "^BSESN",
    "STOXX": "^STOXX",
    "TAIEX": "^TWII",
    "TOPIX": "^TPX",
}

# The traded currencies of ISO 4217, and the offshore renminbi.
CURRENCIES: Final = _words("""
    USD EUR GBP JPY CHF AUD NZD CAD SEK NOK DKK PLN CZK HUF RON TRY ZAR ILS RUB MXN BRL ARS CLP COP PEN CNY CNH HKD
    SGD INR KRW TWD THB IDR MYR PHP VND SAR AED QAR KWD EGP NGN KES UAH KZT ISK
""")
FIAT_AND_METALS: Final = CURRENCIES | _words("XAU XAG XPT XPD")

_STABLE = _words("USDT USDC BUSD FDUSD TUSD DAI USDP PYUSD USD1 EURC EURT")
CRYPTO_QUOTES: Final = _STABLE | _words("BTC ETH BNB XBT")
# The possible ends of a joined pair such as BTCEUR.
QUOTES_LONGEST_FIRST: Final = tuple(
    sorted(CRYPTO_QUOTES | CURRENCIES, key=lambda quote: (-len(quote), quote not in CRYPTO_QUOTES, quote))
)
COINS: Final = _STABLE | _words("""
    BTC XBT ETH BNB SOL XRP ADA DOGE TRX AVAX LINK DOT LTC BCH XLM UNI ATOM ETC XMR HBAR ICP FIL APT ARB OP NEAR VET
    ALGO MKR AAVE GRT INJ SUI SEI TIA STX IMX RUNE FTM SAND MANA AXS THETA EOS XTZ FLOW NEO KAVA CRV COMP SNX LDO PEPE
    SHIB BONK FLOKI WIF TON TAO RENDER RNDR FET JUP PYTH ENA ONDO WLD ORDI GALA CHZ ZEC DASH IOTA ENJ BAT ZIL QTUM
    KSM EGLD MINA ROSE CFX DYDX GMX CAKE SUSHI YFI ENS BLUR JTO STRK MATIC POL HYPE TRUMP 1INCH
""")
# Coins that are also tickers in the US. Both are meant so often that the user is asked.
COINS_BY_THEMSELVES: Final = _words("BTC ETH XRP SOL DOGE BNB ADA USDT USDC LTC XBT")
# Those of which a person may write one half of a pair only. USD is left out: it is a fund in New York.
CURRENCIES_BY_THEMSELVES: Final = _words("EUR GBP JPY CHF AUD NZD CAD XAU XAG XPT XPD")
CRYPTO_VENUES: Final = _words("CC KRAKEN COINBASE BINANCE BITSTAMP BITFINEX BYBIT OKX GEMINI KUCOIN GDAX")

# Roots of futures of CME, CBOT, COMEX and NYMEX with the hours of Globex. Grains and livestock have other hours.
FUTURES_BY_ROOT: Final = dict.fromkeys(
    _words("""
        ES NQ YM RTY MES MNQ MYM M2K NKD GC SI HG PL PA MGC SIL CL NG RB HO BZ MCL QM ZN ZB ZF ZT UB TN SR3 ZQ
        6E 6B 6J 6C 6A 6N 6S 6M 6L M6E M6B
    """),
    "CMES",
)
