"""Ariva and other German sites: German names, semicolons, decimal commas."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="German names",
    example="Datum;Erster;Hoch;Tief;Schlusskurs;Stuecke;Volumen\n2024-01-02;142,5;143,1;141,08;141,9;3.251;462.087",
    marks=frozenset({"datum", "hoch", "tief"}),
    columns={
        "date": "datum",
        "time": ("zeit", "uhrzeit"),
        "open": ("erster", "eröffnung", "eroeffnung", "eröffnungskurs", "eröffn"),
        "high": ("hoch", "tageshoch"),
        "low": ("tief", "tagestief"),
        "close": ("schlusskurs", "schluss", "letzter", "zuletzt"),
        "volume": ("stuecke", "stücke", "umsatz", "volumen", "vol"),
    },
    dates="dmy",
    remark="The volume is the number of shares, Stuecke.",
)
