"""China's shares by the Python packages Tushare, AKShare and Baostock. Shanghai and Shenzhen have one calendar."""

from ema_assets.files.declaration import Layout

_CALENDAR = "XSHG"
_LOT = 100
_EXCHANGES = {"sh": ".SS", "sz": ".SZ", "bj": ".BJ"}


def usual_symbol(text: str) -> str:
    """A symbol as most vendors write it: `sh.600000` and `600000.SH` are 600000.SS."""
    first, dot, second = text.lower().partition(".")
    if dot and first in _EXCHANGES:
        return second + _EXCHANGES[first]
    if dot and second in _EXCHANGES:
        return first + _EXCHANGES[second]
    return text


LAYOUTS = (
    Layout(
        name="Tushare",
        words=frozenset({"tushare"}),
        example=(
            "ts_code,trade_date,open,high,low,close,pre_close,change,pct_chg,vol,amount\n"
            "600000.SH,20240102,6.63,6.66,6.58,6.59,6.62,-0.03,-0.4532,231458.0,153012.345"
        ),
        marks=frozenset({"ts code", "trade date", "pre close", "vol"}),
        columns={"symbol": "ts code", "volume": "vol"},
        volume_unit=_LOT,
        timeframe="1d",
        calendar=_CALENDAR,
        symbol=usual_symbol,
        remark="`600000.SH` becomes 600000.SS. Volumes are lots of 100 shares, stored as shares.",
    ),
    Layout(
        name="AKShare",
        words=frozenset({"akshare"}),
        example=(
            "日期,股票代码,开盘,收盘,最高,最低,成交量,成交额,振幅,涨跌幅,涨跌额,换手率\n"
            "2024-01-02,600000,6.63,6.59,6.66,6.58,231458,153012345.0,1.21,-0.45,-0.03,0.08"
        ),
        marks=frozenset({"日期", "开盘", "收盘", "最高", "最低", "成交额"}),
        columns={"date": "日期", "open": "开盘", "close": "收盘", "high": "最高", "low": "最低", "volume": "成交量"},
        volume_unit=_LOT,
        timeframe="1d",
        calendar=_CALENDAR,
        remark="The symbol is that of the file's name or of `--symbol`. Volumes are lots, stored as shares.",
    ),
    Layout(
        name="Baostock",
        words=frozenset({"baostock"}),
        example=(
            "date,time,code,open,high,low,close,volume,amount,adjustflag\n"
            "2024-01-02,20240102093500000,sh.600000,6.63,6.65,6.62,6.64,1203400,7981234.5,3"
        ),
        marks=frozenset({"date", "code", "adjustflag"}),
        only={"adjustflag": frozenset({"3"})},
        zone="Asia/Shanghai",
        label="close",
        calendar=_CALENDAR,
        symbol=usual_symbol,
        remark="`sh.600000` becomes 600000.SS. Rows that are not adjusted (flag 3) only.",
    ),
)
