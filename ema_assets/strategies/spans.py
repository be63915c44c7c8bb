"""The spans of two averages as parameters of a rule, `fast` and `slow`, and the names of what they make."""

from ema_assets.model.averages import FAST_SPAN, LEAST_SPAN, MOST_SPAN, SLOW_SPAN
from ema_assets.strategies.rule import Param, Params

SPANS = {
    "fast": Param(FAST_SPAN, "Closes in the fast average", least=LEAST_SPAN, most=MOST_SPAN),
    "slow": Param(SLOW_SPAN, "Closes in the slow average; more than in the fast one", least=LEAST_SPAN, most=MOST_SPAN),
}
# As `reads` of a rule names them.
TREND, FAST_EMA, SLOW_WMA = "ema_trend_{fast}_{slow}", "ema_{fast}", "wma_{slow}"


def check_spans(params: Params) -> str | None:
    """What is wrong with both spans together."""
    fast, slow = params["fast"], params["slow"]
    return None if fast < slow else f"`fast` must be less than `slow`, received fast = {fast}, slow = {slow}"
