"""India's exchanges, NSE and BSE: bhavcopies of a day, and the histories of a security or an index."""

from ema_assets.files.declaration import Layout

_CALENDAR = "XBOM"
# The series of shares. Other series are bonds and block deals under the same symbol.
_SHARES = frozenset({"EQ", "BE"})

LAYOUTS = (
    Layout(
        name="NSE bhavcopy",
        words=frozenset({"nse", "bse", "equity", "quote", "eq"}),
        example=(
            "SYMBOL,SERIES,OPEN,HIGH,LOW,CLOSE,LAST,PREVCLOSE,TOTTRDQTY,TOTTRDVAL,TIMESTAMP,TOTALTRADES,ISIN\n"
            "RELIANCE,EQ,2580.3,2606.85,2573.15,2587.9,2589,2584.95,1987543,5141200000,01-JAN-2024,76543,INE002A01018"
        ),
        marks=frozenset({"symbol", "series", "prevclose", "tottrdqty", "timestamp"}),
        columns={"volume": "tottrdqty"},
        only={"series": _SHARES},
        dates="dmy",
        timeframe="1d",
        calendar=_CALENDAR,
        remark="Series EQ and BE only.",
    ),
    Layout(
        name="NSE bhavcopy, full",
        example=(
            "SYMBOL, SERIES, DATE1, PREV_CLOSE, OPEN_PRICE, HIGH_PRICE, LOW_PRICE, LAST_PRICE, CLOSE_PRICE, AVG_PRICE, "
            "TTL_TRD_QNTY, TURNOVER_LACS, NO_OF_TRADES, DELIV_QTY, DELIV_PER\n"
            "RELIANCE, EQ, 01-Jan-2024, 2584.95, 2580.30, 2606.85, 2573.15, 2589.00, 2587.90, 2590.12, 1987543, "
            "51479.80, 76543, 1023456, 51.49"
        ),
        marks=frozenset({"symbol", "series", "date1", "close price", "ttl trd qnty"}),
        columns={"date": "date1", "volume": "ttl trd qnty"},
        only={"series": _SHARES},
        dates="dmy",
        timeframe="1d",
        calendar=_CALENDAR,
        remark="Series EQ and BE only.",
    ),
    Layout(
        name="NSE and BSE bhavcopy since 2024",
        example=(
            "TradDt,BizDt,Sgmt,Src,FinInstrmTp,FinInstrmId,ISIN,TckrSymb,SctySrs,OpnPric,HghPric,LwPric,ClsPric,LastPric,"
            "PrvsClsgPric,TtlTradgVol,TtlTrfVal\n"
            "2024-07-08,2024-07-08,CM,NSE,STK,2885,INE002A01018,RELIANCE,EQ,3180.0,3214.9,3166.35,3201.8,3200.0,"
            "3177.5,4123456,13180000000"
        ),
        marks=frozenset({"trad dt", "tckr symb", "opn pric", "cls pric"}),
        columns={
            "date": "trad dt",
            "symbol": "tckr symb",
            "open": "opn pric",
            "high": "hgh pric",
            "low": "lw pric",
            "close": "cls pric",
            "volume": "ttl tradg vol",
        },
        timeframe="1d",
        calendar=_CALENDAR,
    ),
    Layout(
        name="NSE security history",
        example=(
            "Date ,series ,OPEN ,HIGH ,LOW ,PREV. CLOSE ,ltp ,close ,vwap ,52W H ,52W L ,VOLUME ,VALUE ,No of trades \n"
            '"01-Apr-2026","EQ","1,351.00","1,372.40","1,344.60","1,347.20","1,369.95","1,370.10","1,362.33",'
            '"1,611.80","1,115.55","1,12,34,567","15,30,55,12,345.60","2,76,543"'
        ),
        marks=frozenset({"date", "series", "prev close", "ltp", "close", "vwap"}),
        only={"series": _SHARES},
        dates="dmy",
        timeframe="1d",
        calendar=_CALENDAR,
        remark="Series EQ and BE only.",
    ),
    Layout(
        name="NSE index history",
        example=(
            "Date ,Open ,High ,Low ,Close ,Shares Traded ,Turnover (₹ Cr)\n"
            "01-APR-2026,23341.1,23565.15,23136.4,23165.7,435262340,41183.33"
        ),
        marks=frozenset({"date", "open", "close", "shares traded"}),
        dates="dmy",
        timeframe="1d",
        calendar=_CALENDAR,
    ),
    Layout(
        name="BSE security history",
        example=(
            "Date,Open Price,High Price,Low Price,Close Price,WAP,No.of Shares,No. of Trades,Total Turnover (Rs.)\n"
            "1-January-2024,2580.10,2606.30,2573.50,2587.60,2589.41,98765,5432,255743210.00"
        ),
        marks=frozenset({"date", "open price", "close price", "no of shares", "wap"}),
        dates="dmy",
        timeframe="1d",
        calendar=_CALENDAR,
    ),
)
