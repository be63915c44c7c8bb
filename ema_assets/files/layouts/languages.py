"""Names of columns in other languages, as banks, exchanges and the editions of Investing.com write them."""

from collections.abc import Mapping

from ema_assets.files.declaration import Layout

Names = str | tuple[str, ...]


def _layout(language: str, example: str, marks: set[str], dates: str | None = None, **columns: Names) -> Layout:
    """A layout of names in `language`; `columns` by role, and `dates` the order of numbers in dates there."""
    named: Mapping[str, Names] = columns
    return Layout(
        name=f"{language} names", example=example, marks=frozenset(marks), columns=named, dates=dates, is_guessed=True
    )


LAYOUTS = (
    _layout(
        "French",
        "Date;Ouverture;Plus haut;Plus bas;Clôture;Volume\n18/01/2024;142,5;143,1;141,08;141,9;3251",
        {"date", "plus haut", "plus bas"},
        "dmy",
        open=("ouverture", "ouv"),
        high="plus haut",
        low="plus bas",
        close=("clôture", "cloture", "dernier", "dernier cours"),
        volume=("volume", "vol"),
    ),
    _layout(
        "Spanish",
        "Fecha;Apertura;Máximo;Mínimo;Cierre;Volumen\n18/01/2024;142,5;143,1;141,08;141,9;3251",
        {"fecha", "apertura"},
        "dmy",
        date="fecha",
        time="hora",
        open="apertura",
        high=("máximo", "maximo", "máx", "max", "alto"),
        low=("mínimo", "minimo", "mín", "min", "bajo"),
        close=("cierre", "último", "ultimo"),
        volume=("volumen", "vol"),
    ),
    _layout(
        "Italian",
        "Data;Apertura;Massimo;Minimo;Chiusura;Volume\n18/01/2024;142,5;143,1;141,08;141,9;3251",
        {"data", "apertura", "massimo", "minimo"},
        "dmy",
        date="data",
        time="ora",
        open="apertura",
        high="massimo",
        low="minimo",
        close=("chiusura", "ultimo"),
        volume=("volume", "volumi", "vol"),
    ),
    _layout(
        "Portuguese",
        "Data;Abertura;Máxima;Mínima;Fechamento;Volume\n18/01/2024;142,5;143,1;141,08;141,9;3251",
        {"data", "abertura"},
        "dmy",
        date="data",
        time="hora",
        open="abertura",
        high=("máxima", "maxima", "máximo", "maximo", "alta"),
        low=("mínima", "minima", "mínimo", "minimo", "baixa"),
        close=("fechamento", "fecho", "último", "ultimo"),
        volume=("volume", "vol"),
    ),
    _layout(
        "Dutch",
        "Datum;Open;Hoog;Laag;Slot;Volume\n18-01-2024;142,5;143,1;141,08;141,9;3251",
        {"datum", "hoog", "laag"},
        "dmy",
        date="datum",
        time="tijd",
        high="hoog",
        low="laag",
        close=("slot", "laatste"),
    ),
    _layout(
        "Russian",
        "Дата;Открытие;Максимум;Минимум;Закрытие;Объём\n18.01.2024;142,5;143,1;141,08;141,9;3251",
        {"дата"},
        "dmy",
        date="дата",
        time="время",
        open=("открытие", "откр"),
        high=("максимум", "макс"),
        low=("минимум", "мин"),
        close=("закрытие", "цена"),
        volume=("объём", "объем"),
    ),
    _layout(
        "Turkish",
        "Tarih;Açılış;Yüksek;Düşük;Kapanış;Hacim\n18.01.2024;142,5;143,1;141,08;141,9;3251",
        {"tarih", "yüksek", "düşük"},
        "dmy",
        date="tarih",
        time="saat",
        open="açılış",
        high="yüksek",
        low="düşük",
        close=("kapanış", "şimdi"),
        volume=("hacim", "hac"),
    ),
    _layout(
        "Japanese",
        "日付け,終値,始値,高値,安値,出来高\n2024年01月18日,141.9,142.5,143.1,141.08,3251",
        {"始値", "高値", "安値", "終値"},
        date=("日付け", "日付"),
        time="時刻",
        open="始値",
        high="高値",
        low="安値",
        close="終値",
        volume="出来高",
    ),
    _layout(
        "Korean",
        "날짜,종가,시가,고가,저가,거래량\n2024- 01- 18,141.9,142.5,143.1,141.08,3251",
        {"시가", "고가", "저가", "종가"},
        date=("날짜", "일자"),
        time="시간",
        open="시가",
        high="고가",
        low="저가",
        close="종가",
        volume="거래량",
    ),
    _layout(
        "Chinese",
        "日期,收盘,开盘,高,低,交易量\n2024-1-18,141.9,142.5,143.1,141.08,3251",
        {"日期", "收盘", "开盘"},
        date="日期",
        time="时间",
        open=("开盘", "开盘价"),
        high=("高", "最高", "最高价"),
        low=("低", "最低", "最低价"),
        close=("收盘", "收盘价"),
        volume=("交易量", "成交量"),
    ),
)
