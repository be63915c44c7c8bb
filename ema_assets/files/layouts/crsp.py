"""CRSP: daily US stocks as WRDS exports them, in the old format and in the one since 2022, prices as they traded."""

from ema_assets.files.declaration import Layout

_REMARK = (
    "Prices are as they traded: docs/CORPORATE_ACTIONS.md. A negative price is the middle of bid and ask on a day "
    "without trades; it is rejected."
)


def _since_2022(name: str, prefix: str, head: str) -> Layout:
    """Return the layout of the format since 2022, whose names of columns begin with `prefix`, as `plain` spells it."""
    return Layout(
        name=name,
        example=f"{head}\n14593,AAPL,2024-01-02,187.15,188.44,183.89,185.64,82488674",
        marks=frozenset({f"{prefix}high", f"{prefix}low", f"{prefix}vol"}),
        columns={
            "date": (f"{prefix}caldt", f"{prefix}cal dt"),
            **{role: f"{prefix}{role}" for role in ("open", "high", "low")},
            "close": (f"{prefix}close", f"{prefix}prc"),
            "volume": f"{prefix}vol",
        },
        timeframe="1d",
        remark=_REMARK,
    )


LAYOUTS = (
    Layout(
        name="CRSP",
        words=frozenset({"dsf", "wrds"}),
        example=(
            "PERMNO,date,TICKER,BIDLO,ASKHI,PRC,VOL,OPENPRC\n14593,2024-01-02,AAPL,183.89,188.44,185.64,82488674,187.15"
        ),
        marks=frozenset({"bidlo", "askhi", "prc"}),
        columns={"open": "openprc", "high": "askhi", "low": "bidlo", "close": "prc"},
        timeframe="1d",
        remark=_REMARK,
    ),
    _since_2022("CRSP since 2022", "dly ", "PERMNO,Ticker,DlyCalDt,DlyOpen,DlyHigh,DlyLow,DlyClose,DlyVol"),
    _since_2022("CRSP since 2022, small letters", "dly", "permno,ticker,dlycaldt,dlyopen,dlyhigh,dlylow,dlyprc,dlyvol"),
)
