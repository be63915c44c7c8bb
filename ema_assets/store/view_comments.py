"""The comments on the views of `results`, which database clients show. SQL only."""

from collections.abc import Iterator, Sequence

_COMMENTS = {
    "results.bars": "One row per bar; ts is its opening time. Prices are adjusted for splits.",
    "results.signals": "One row per bar, with the columns of every signal that is switched on.",
    "results.trades": "One row per trade of any strategy, the open ones too: status.",
    "results.performance": "One row per strategy and series, as of its last refresh.",
    "results.screener": "One row per symbol and timeframe: the newest bar, its trend and where the averages cross.",
}
# This view's comment is the signature of all views: what they were created from. It has no comment for users.
SIGNED = "market.trade"


def statements(screeners: Sequence[str]) -> Iterator[str]:
    """Yield the statements that write the comments of all views, including `screeners`."""
    for view, comment in {**dict.fromkeys(screeners, _COMMENTS["results.screener"]), **_COMMENTS}.items():
        yield f"COMMENT ON VIEW {view} IS '{comment}'"
