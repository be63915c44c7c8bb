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

# The prefixes of exchanges at TradingView and Google, and the suffixes here that they may stand for.
SUFFIXES_BY_PREFIX: Final = {
    **dict.fromkeys(("NASDAQ", "NYSE", "AMEX", "NYSEARCA", "NYSEAMERICAN", "ARCA", "BATS", "CBOE"), ("",)),
    **dict.fromkeys(("OTC", "OTCMKTS", "MUTF"), ("",)),
    **dict.fromkeys(("LSE", "LON", "LSIN"), (".L",)),
    **dict.fromkeys(("TSX", "TSE_CA"), (".TO",)),
    **dict.fromkeys(("TSXV", "CVE"), (".V",)),
    **dict.fromkeys(("BMFBOVESPA", "BVMF"), (".SA",)),
    "BMV": (".MX",),
    **dict.fromkeys(("BCBA", "BYMA"), (".BA",)),
    "BCS": (".SN",),
    **dict.fromkeys(("XETR", "ETR"), (".DE",)),
    **dict.fromkeys(("FRA", "FWB"), (".F",)),
    **dict.fromkeys(("STU", "SWB"), (".SG",)),
    "DUS": (".DU",),
    "HAM": (".HM",),
    "EURONEXT": (".PA", ".AS", ".BR", ".LS", ".IR", ".OL"),
    "EPA": (".PA",),
    "AMS": (".AS",),
    "EBR": (".BR",),
    "ELI": (".LS",),
    **dict.fromkeys(("MIL", "BIT"), (".MI",)),
    "BME": (".MC",),
    **dict.fromkeys(("SIX", "SWX", "VTX"), (".SW",)),
    "VIE": (".VI",),
    **dict.fromkeys(("OMXSTO", "STO"), (".ST",)),
    **dict.fromkeys(("OMXCOP", "CPH"), (".CO",)),
    **dict.fromkeys(("OMXHEX", "HEL"), (".HE",)),
    **dict.fromkeys(("OSL", "OSE"), (".OL",)),
    **dict.fromkeys(("GPW", "WSE"), (".WA",)),
    "BIST": (".IS",),
    "ATHEX": (".AT",),
    **dict.fromkeys(("TASE", "TLV"), (".TA",)),
    **dict.fromkeys(("TADAWUL", "TASI"), (".SR",)),
    "JSE": (".JO",),
    **dict.fromkeys(("TSE", "TYO"), (".T",)),
    **dict.fromkeys(("HKEX", "HKG"), (".HK",)),
    **dict.fromkeys(("SSE", "SHA"), (".SS",)),
    **dict.fromkeys(("SZSE", "SHE"), (".SZ",)),
    **dict.fromkeys(("KRX", "KOSPI"), (".KS",)),
    "KOSDAQ": (".KQ",),
    **dict.fromkeys(("TWSE", "TPE"), (".TW",)),
    "TPEX": (".TWO",),
    "NSE": (".NS",),
    **dict.fromkeys(("BSE", "BOM"), (".BO",)),
    "SGX": (".SI",),
    "IDX": (".JK",),
    **dict.fromkeys(("MYX", "KLSE"), (".KL",)),
    **dict.fromkeys(("SET", "BKK"), (".BK",)),
    "PSE": (".PS",),
    "PSX": (".KA",),
    "ASX": (".AX",),
    **dict.fromkeys(("NZX", "NZE"), (".NZ",)),
    # What these quote has no exchange.
    **dict.fromkeys(("BINANCE", "COINBASE", "KRAKEN", "BITSTAMP", "BYBIT", "OKX", "BITFINEX", "GEMINI"), ("",)),
    **dict.fromkeys(("KUCOIN", "BITGET", "MEXC", "HTX", "HUOBI", "GATEIO", "BITMEX", "DERIBIT", "UPBIT"), ("",)),
    **dict.fromkeys(("FX", "FX_IDC", "OANDA", "FOREXCOM", "FXCM", "SAXO", "CAPITALCOM", "PEPPERSTONE"), ("",)),
    **dict.fromkeys(("TVC", "INDEX", "SP", "DJ", "CURRENCY", "INDEXSP", "INDEXDJX", "INDEXNASDAQ"), ("",)),
    # Polygon writes C:EURUSD, X:BTCUSD and I:SPX.
    **dict.fromkeys(("C", "X", "I"), ("",)),
}
# Prefixes of those that also quote indices and other things under names of their own, which may be tickers.
PREFIXES_OF_QUOTES: Final = _words("CBOE TVC INDEX SP DJ INDEXSP INDEXDJX INDEXNASDAQ CAPITALCOM PEPPERSTONE I")
# Those of exchanges of futures, where the rest is a root: COMEX:GC1!
FUTURES_PREFIXES: Final = _words("CME CME_MINI CME_GBX CBOT CBOT_MINI COMEX COMEX_MINI NYMEX NYMEX_MINI")

# Two-letter codes of Bloomberg, MICs and other suffixes, and the suffix here: VOD LN, 600519.XSHG, VOD.LON.
SUFFIX_BY_CODE: Final = {
    **dict.fromkeys(_words("US UN UW UQ UR UA UP UV OQ NASDAQ NYSE XNYS XNAS ARCX"), ""),
    **dict.fromkeys(_words("LN LON XLON"), ".L"),
    **dict.fromkeys(_words("GR GY ETR DEX XETR"), ".DE"),
    **dict.fromkeys(_words("GF FRA XFRA"), ".F"),
    **dict.fromkeys(_words("FP PAR XPAR"), ".PA"),
    **dict.fromkeys(_words("NA AMS XAMS"), ".AS"),
    **dict.fromkeys(_words("BB XBRU"), ".BR"),
    **dict.fromkeys(_words("IM MIL XMIL"), ".MI"),
    **dict.fromkeys(_words("SM MAD XMAD"), ".MC"),
    # Refinitiv has one letter for some exchanges: NESN.S, AGLJ.J.
    **dict.fromkeys(_words("SE SW S SWX XSWX"), ".SW"),
    **dict.fromkeys(_words("SS STO XSTO"), ".ST"),
    **dict.fromkeys(_words("DC CPH XCSE"), ".CO"),
    **dict.fromkeys(_words("FH HEL XHEL"), ".HE"),
    **dict.fromkeys(_words("NO OSL XOSL"), ".OL"),
    **dict.fromkeys(_words("AV VIE XWBO"), ".VI"),
    **dict.fromkeys(_words("ID I XDUB"), ".IR"),
    **dict.fromkeys(_words("PW PL WAR XWAR"), ".WA"),
    **dict.fromkeys(_words("TI BIST XIST"), ".IS"),
    **dict.fromkeys(_words("IT XTAE"), ".TA"),
    **dict.fromkeys(_words("SJ J JSE XJSE"), ".JO"),
    **dict.fromkeys(_words("CT CN TSX XTSE"), ".TO"),
    **dict.fromkeys(_words("BZ BS BVMF"), ".SA"),
    **dict.fromkeys(_words("MM XMEX"), ".MX"),
    **dict.fromkeys(_words("JP JT TSE TYO XTKS"), ".T"),
    **dict.fromkeys(_words("HK HKG XHKG"), ".HK"),
    **dict.fromkeys(_words("CH CG C1 SH XSHG"), ".SS"),
    **dict.fromkeys(_words("CS C2 XSHE"), ".SZ"),
    **dict.fromkeys(_words("KS KP KRX XKRX"), ".KS"),
    "KQ": ".KQ",
    **dict.fromkeys(_words("TT XTAI"), ".TW"),
    **dict.fromkeys(_words("IN IS XNSE"), ".NS"),
    **dict.fromkeys(_words("IB XBOM"), ".BO"),
    **dict.fromkeys(_words("SP SGX XSES"), ".SI"),
    "IJ": ".JK",
    "MK": ".KL",
    "TB": ".BK",
    **dict.fromkeys(_words("AU AT ASX XASX"), ".AX"),
}

INDICES: Final = {
    **dict.fromkeys(("^GSPC", "^SPX", "^DJI", "^IXIC", "^NDX", "^RUT", "^NYA", "^XAX", "^VIX", "^SOX"), "XNYS"),
    **dict.fromkeys(("^TNX", "^IRX", "^FVX", "^TYX", "^W5000", "^OEX", "^MID"), "XNYS"),
    **dict.fromkeys(("^DJT", "^DJU", "^SP500TR", "^VIX3M", "^VVIX", "^SKEW", "^OVX", "^GVZ"), "XNYS"),
    "^GSPTSE": "XTSE",
    "^MXX": "XMEX",
    "^BVSP": "BVMF",
    "^MERV": "XBUE",
    "^FTSE": "XLON",
    **dict.fromkeys(("^FTMC", "^FTAS", "^FTLC"), "XLON"),
    **dict.fromkeys(("^GDAXI", "^MDAXI", "^TECDAX", "^STOXX50E", "^STOXX"), "XETR"),
    "^FCHI": "XPAR",
    "^AEX": "XAMS",
    "^BFX": "XBRU",
    "^IBEX": "XMAD",
    "^SSMI": "XSWX",
    "^ATX": "XWBO",
    **dict.fromkeys(("^OMX", "^OMXS30"), "XSTO"),
    "^OMXC25": "XCSE",
    "^OMXH25": "XHEL",
    "^OSEAX": "XOSL",
    **dict.fromkeys(("^N225", "^TPX"), "XTKS"),
    **dict.fromkeys(("^HSI", "^HSCE", "^HSTECH"), "XHKG"),
    **dict.fromkeys(("^KS11", "^KQ11", "^KS200"), "XKRX"),
    "^TWII": "XTAI",
    "^STI": "XSES",
    **dict.fromkeys(("^BSESN", "^NSEI", "^NSEBANK", "^CNX100", "^CNXIT", "^INDIAVIX"), "XBOM"),
    "^JKSE": "XIDX",
    "^KLSE": "XKLS",
    "^SET": "XBKK",
    "^PSEI": "XPHS",
    **dict.fromkeys(("^AXJO", "^AORD"), "XASX"),
    "^NZ50": "XNZE",
}
# Common names of indices outside the US. All of them could be tickers in the US, and some are.
INDEX_NAMES: Final = {
    **{index.removeprefix("^"): index for index, calendar in INDICES.items() if calendar != "XNYS"},
    "CAC": "^FCHI",
    "DAX": "^GDAXI",
    "HSCEI": "^HSCE",
    "KLCI": "^KLSE",
    "KOSPI": "^KS11",
    "MDAX": "^MDAXI",
    "NIFTY": "^NSEI",
    "NIKKEI": "^N225",
    "SENSEX": "^BSESN",
    "SMI": "^SSMI",
    "TAIEX": "^TWII",
    "TOPIX": "^TPX",
    "TSX": "^GSPTSE",
    "XJO": "^AXJO",
}
# Names that are no tickers anywhere: those of brokers, and of US indices where only an index can be meant (.SPX).
OTHER_INDEX_NAMES: Final = {
    **dict.fromkeys(_words("SPX INX GSPC US500 SPX500"), "^GSPC"),
    **dict.fromkeys(_words("DJI DJIA US30"), "^DJI"),
    **dict.fromkeys(_words("NDX NAS100 US100 USTEC"), "^NDX"),
    **dict.fromkeys(_words("IXIC COMP"), "^IXIC"),
    **dict.fromkeys(_words("RUT US2000"), "^RUT"),
    "VIX": "^VIX",
    **dict.fromkeys(_words("DAX40 DE40 GER40 DE30 GER30 DEU40"), "^GDAXI"),
    **dict.fromkeys(_words("UK100 UKX FTSE100"), "^FTSE"),
    **dict.fromkeys(_words("FRA40 FR40 CAC40"), "^FCHI"),
    **dict.fromkeys(_words("EU50 EUSTX50 STOXX50 SX5E"), "^STOXX50E"),
    **dict.fromkeys(_words("ESP35 ES35 IBEX35"), "^IBEX"),
    **dict.fromkeys(_words("JP225 JPN225 NI225 NKY"), "^N225"),
    **dict.fromkeys(_words("HK50 HKG50 HK33"), "^HSI"),
    **dict.fromkeys(_words("AUS200 AU200 AS51"), "^AXJO"),
    "NIFTY50": "^NSEI",
    "BANKNIFTY": "^NSEBANK",
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
# Coins by whose name alone the coin is meant as often as a ticker in the US, or always. By NEAR and others, the
# ticker is meant.
COINS_BY_THEMSELVES: Final = _words("""
    BTC XBT ETH BNB SOL XRP ADA DOGE LTC USDT USDC TRX AVAX LINK DOT XLM UNI ETC XMR HBAR ICP FIL ALGO MKR AAVE INJ TIA
    RUNE FTM SAND MANA THETA XTZ KAVA CRV LDO PEPE SHIB BONK FLOKI WIF TON TAO RNDR FET PYTH ENA ONDO WLD ORDI GALA CHZ
    ZEC IOTA ENJ KSM EGLD DYDX GMX SUSHI YFI JTO MATIC POL HYPE TRUMP
""")
# Those of which a person may write one half of a pair only. Others, such as USD, are tickers in New York.
CURRENCIES_BY_THEMSELVES: Final = _words("""
    EUR GBP JPY CHF AUD NZD CAD SEK DKK PLN CZK HUF RON TRY ZAR RUB MXN BRL CNY CNH SGD INR KRW TWD THB IDR XAU XAG XPT
    XPD
""")
CRYPTO_VENUES: Final = _words("CC KRAKEN COINBASE BINANCE BITSTAMP BITFINEX BYBIT OKX GEMINI KUCOIN GDAX")

# Roots of futures of CME, CBOT, COMEX and NYMEX with the hours of Globex. Grains and livestock have other hours.
FUTURES_BY_ROOT: Final = dict.fromkeys(
    _words("""
        ES NQ YM RTY MES MNQ MYM M2K NKD GC SI HG PL PA MGC SIL CL NG RB HO BZ MCL QM ZN ZB ZF ZT UB TN SR3 ZQ
        6E 6B 6J 6C 6A 6N 6S 6M 6L M6E M6B
    """),
    "CMES",
)
# Names that mean a commodity or a future more often than a ticker in the US, by how that is written here. ES and CL are
# left out: they are large companies. An empty text stands for what no calendar here fits.
NAMES_OF_FUTURES: Final = {
    **{root: f"{root}=F" for root in _words("NQ YM RTY MES MNQ MYM NKD GC MCL QM HO RB ZN ZB ZF ZT UB TN ZQ")},
    "GOLD": "GC=F",
    **dict.fromkeys(_words("USOIL WTI XTI"), "CL=F"),
    **dict.fromkeys(_words("UKOIL BRENT XBR"), "BZ=F"),
    **dict.fromkeys(_words("NGAS XNG"), "NG=F"),
    **dict.fromkeys(_words("DXY USDX FDAX FDXM FESX FGBL FGBM FGBS"), ""),
}
