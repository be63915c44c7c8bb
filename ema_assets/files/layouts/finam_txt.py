"""Finam: text files with names in angle brackets, Moscow time."""

from ema_assets.files.declaration import Layout

LAYOUT = Layout(
    name="Finam",
    words=frozenset({"finam"}),
    example="<TICKER>;<PER>;<DATE>;<TIME>;<OPEN>;<HIGH>;<LOW>;<CLOSE>;<VOL>\nSBER;60;20240103;100000;271.90;272.60;271.53;272.36;1834210",
    marks=frozenset({"ticker", "per", "date", "time", "vol"}),
    unless=frozenset({"openint"}),
    zones=("Europe/Moscow",),
)
