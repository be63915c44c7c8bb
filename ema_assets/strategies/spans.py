"""The spans of two averages as parameters of a rule, `fast` and `slow`, and the names of the averages and the trend."""

from ema_assets.model.averages import FAST_SPAN, LEAST_SPAN, MOST_SPAN, SLOW_SPAN
from ema_assets.strategies.rule import Param, Params

SPANS = {
    "fast": Param(FAST_SPAN, "Closes in the fast average", least=LEAST_SPAN, most=MOST_SPAN),
    "slow": Param(SLOW_SPAN, "Closes in the slow average; more than in the fast one", least=LEAST_SPAN, most=MOST_SPAN),
}
# The names as written in `reads` of a rule.
TREND, FAST_EMA, SLOW_WMA = "ema_trend_{fast}_{slow}", "ema_{fast}", "wma_{slow}"


def check_spans(params: Params) -> str | None:
    """Return what is wrong with the combination of both spans, or None."""
    fast, slow = params["fast"], params["slow"]
    return None if fast < slow else f"`fast` must be less than `slow`, received fast = {fast}, slow = {slow}"
