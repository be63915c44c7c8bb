"""Tests of the rows `[[alert]]` of the watchlist: how they are read, and how mistakes are reported."""

import subprocess
import sys
from datetime import time

import pytest

from ema_assets.alerts.discovery import discover
from ema_assets.alerts.subscriptions import Subscription
from ema_assets.config import watchlist
from ema_assets.model.errors import WatchlistError
from ema_assets.refresh.graph import build

GROUPS = """
[[group]]
name = "Shares"
symbols = ["AAPL", "MSFT"]

[[group]]
name = "Crypto"
calendar = "24/7"
symbols = ["BTC-USD"]
"""
SECRET = "s3cret-t0ken"


def parsed(row: str, channels: str = "") -> Subscription:
    alerts = watchlist.parse(f"{channels}\n[[alert]]\n{row}\n{GROUPS}").alerts
    assert alerts is not None
    (subscription,) = alerts.subscriptions
    assert set(subscription.to) == set(alerts.used())
    return subscription


def test_a_row_without_filters_applies_to_everything() -> None:
    found = parsed('on = ["crossover"]\nto = ["${HOOK}"]')
    assert (found.name, found.kinds, found.to) == ("alert 1", ("crossover",), ("HOOK",))
    assert (found.symbols, found.timeframes, found.strategies, found.quiet, found.messages_per_hour) == (None,) * 5
    assert (found.group_seconds, dict(found.params)) == (2, {})


def test_channels_alone_raise_no_alerts() -> None:
    assert watchlist.parse(f'[channels]\nunused = "ntfy://topic"\n{GROUPS}').alerts is None


def test_a_row_with_every_key_is_read() -> None:
    found = parsed(
        """
        name = "phone"
        on = ["entry", "stop_near", "series_failing"]
        symbols = ["AAPL"]
        groups = ["Crypto"]
        timeframes = ["1h", "1d"]
        strategies = ["strategy_9_30_ema"]
        to = ["telegram", "json://127.0.0.1:9000/${PATH_OF_HOOK}"]
        quiet_hours = "22:00-07:30"
        time_zone = "America/New_York"
        messages_per_hour = 6
        group_seconds = 60
        stop_within_pct = 1
        """,
        '[channels]\ntelegram = "tgram://${TOKEN}/${CHAT}"\nunused = "ntfy://topic"',
    )
    assert found.symbols == ("AAPL", "BTC-USD")
    assert (found.timeframes, found.strategies) == (("1h", "1d"), ("strategy_9_30_ema",))
    assert found.quiet is not None
    assert (found.quiet.start, found.quiet.end, found.quiet.zone.key) == (time(22), time(7, 30), "America/New_York")
    assert (found.messages_per_hour, found.group_seconds) == (6, 60)
    assert dict(found.params) == {"stop_within_pct": 1.0, "after_failures": 3}
    assert found.to[0] == "telegram"


@pytest.mark.parametrize(
    ("kinds", "filters"),
    [
        (
            ("crossover", "about_to_cross", "correction_flipped_crossover"),
            "symbols groups timeframes strategies averages",
        ),
        (("entry", "exit", "stop_near", "correction_flipped_trade"), "symbols groups timeframes strategies"),
        (("series_failing",), "symbols groups timeframes"),
        (("provider_shut_out", "nothing_fresh", "run_failed"), ""),
    ],
)
def test_a_filter_that_does_not_apply_to_the_kind_is_refused(kinds: tuple[str, ...], filters: str) -> None:
    values = {
        "symbols": '["AAPL"]',
        "groups": '["Crypto"]',
        "timeframes": '["1h"]',
        "strategies": '["strategy_9_30_ema"]',
        "averages": '["9/30"]',
    }
    for kind in kinds:
        for key, value in values.items():
            row = f'on = ["{kind}"]\nto = ["${{H}}"]\n{key} = {value}'
            if key in filters.split():
                parsed(row)
            else:
                with pytest.raises(
                    WatchlistError, match=f"^watchlist: alert 'alert 1': `{key}` does not apply to {kind}; "
                ):
                    parsed(row)
    # A filter is accepted if it applies to at least one kind of the row.
    assert parsed('on = ["crossover", "run_failed"]\nto = ["${H}"]\nsymbols = ["AAPL"]').symbols == ("AAPL",)


KINDS = ", ".join(discover())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('to = ["${H}"]', '`on` must be a list such as ["crossover", "entry"], it is missing'),
        ('on = "entry"\nto = ["${H}"]', "`on` must be a list such as"),
        (
            'on = ["entrys"]\nto = ["${H}"]',
            f"`on` must name kinds of alerts, {KINDS}; received 'entrys'; did you mean `entry`?",
        ),
        ('on = ["entry"]', "it is missing"),
        ('on = ["entry"]\nto = ["${H}", 3]', "`to` must be a list of names of `[channels]` and of URLs such as"),
        ('on = ["entry"]\nto = []', "`to` must be a list of names of `[channels]` and of URLs such as"),
        ('on = ["entry"]\nto = ["telegran"]', "the names of `[channels]` are telegram; did you mean `telegram`?"),
        (f'on = ["entry"]\nto = ["{SECRET}"]', "`to`, entry 1: must be a URL of Apprise such as"),
        (f'on = ["entry"]\nto = ["json://me:{SECRET}@host"]', "has a password in it; write it as a variable"),
        (f'on = ["json://{SECRET}"]\nto = ["${{H}}"]', "received a URL"),
        (
            'on = ["entry"]\nto = ["${H}"]\nsymbol = ["AAPL"]',
            "unknown key `symbol`, allowed are name, on, to, symbols, groups",
        ),
        ('on = ["entry"]\nto = ["${H}"]\nstop_within_pct = 1', "unknown key `stop_within_pct`"),
        ('on = ["entry"]\nto = ["${H}"]\nstop_within_pct = 1', "it is a key of stop_near"),
        (
            'on = ["stop_near"]\nto = ["${H}"]\nstop_within_pct = 90',
            "`stop_within_pct` must be a number from 0.01 to 50, received 90",
        ),
        (
            'on = ["entry"]\nto = ["${H}"]\nsymbols = ["APPL"]',
            "AAPL, MSFT, BTC-USD; received 'APPL'; did you mean `AAPL`?",
        ),
        (
            'on = ["entry"]\nto = ["${H}"]\ngroups = ["Crypt"]',
            "Shares, Crypto; received 'Crypt'; did you mean `Crypto`?",
        ),
        (
            'on = ["entry"]\nto = ["${H}"]\ntimeframes = ["2h"]',
            "`timeframes` must name timeframes of the watchlist, 5m, 15m",
        ),
        ('on = ["entry"]\nto = ["${H}"]\nsymbols = "AAPL"', "`symbols` must be a list of texts with one at least"),
        (
            'on = ["entry"]\nto = ["${H}"]\nmessages_per_hour = 0',
            "`messages_per_hour` must be a whole number from 1 to 3600",
        ),
        ('on = ["entry"]\nto = ["${H}"]\ngroup_seconds = -1', "`group_seconds` must be a whole number from 0 to 86400"),
        (
            'on = ["entry"]\nto = ["${H}"]\nquiet_hours = "22-7"',
            "`quiet_hours` must be two different times such as \"22:00-07:00\", received '22-7'",
        ),
        ('on = ["entry"]\nto = ["${H}"]\nquiet_hours = "24:00-07:00"\ntime_zone = "UTC"', "two different times"),
        ('on = ["entry"]\nto = ["${H}"]\nquiet_hours = "22:00-07:00"', "need a `time_zone` such as"),
        ('on = ["entry"]\nto = ["${H}"]\nquiet_hours = "22:00-07:00"\ntime_zone = "Mars/Base"', "received 'Mars/Base'"),
        ('on = ["entry"]\nto = ["${H}"]\ntime_zone = "UTC"', 'such as "22:00-07:00", it is missing'),
        (
            'on = ["run_failed", "nothing_fresh"]\nto = ["${H}"]\nstrategies = ["strategy_9_30_ema"]',
            "`strategies` does not apply to run_failed, nothing_fresh; leave it out, for it narrows only about_to_cross, ",
        ),
        (
            'name = "a/b"\non = ["entry"]\nto = ["${H}"]',
            "`name` must be 1 to 48 letters, digits, blanks or . _ -, received 'a/b'",
        ),
    ],
)
def test_an_invalid_row_is_refused_with_allowed_values_and_without_its_urls(row: str, said: str) -> None:
    with pytest.raises(WatchlistError) as raised:
        parsed(row, '[channels]\ntelegram = "tgram://${TOKEN}/x"')
    assert str(raised.value).startswith("watchlist: alert ")
    assert said in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_url_that_is_refused_is_not_taken_for_a_name_of_a_channel() -> None:
    for url in (f"json://me:{SECRET}@host", f"json://host/?token={SECRET}", "${a b}"):
        with pytest.raises(WatchlistError) as raised:
            parsed(f'on = ["entry"]\nto = ["{url}"]', '[channels]\ntelegram = "tgram://${TOKEN}/x"')
        assert "[channels]" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("channels = 3", "`channels` must be a table of URLs by name"),
        (f'[channels]\nphone = "{SECRET}"', "channels: `phone` must be a URL of Apprise"),
        (
            '[channels]\n"a/b" = "ntfy://x"',
            "channels: a name must be 1 to 48 letters, digits, blanks or . _ -, received 'a/b'",
        ),
        (f'[channels]\n"ntfy://{SECRET}" = "ntfy://x"', "blanks or . _ -, received a URL"),
        ("[alert]\non = []", "alerts are written `[[alert]]`, with two brackets on each side"),
        ('[[alert]]\nname = "x"\non = ["exit"]\nto = ["${H}"]\n' * 2, "alert 'x': the name is used twice"),
    ],
)
def test_invalid_tables_are_refused_without_their_urls(text: str, said: str) -> None:
    with pytest.raises(WatchlistError) as raised:
        watchlist.parse(f"{text}\n{GROUPS}")
    assert said in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.broad
def test_a_watchlist_without_alerts_imports_no_alert_code_and_one_with_alerts_no_apprise() -> None:
    """Every run reads the watchlist, so its imports must be quick."""
    row = '[[alert]]\non = ["crossover"]\nto = ["${H}"]\n'
    code = (
        "import sys\nfrom ema_assets.config import watchlist\nfrom ema_assets.refresh.graph import build\n"
        "import ema_assets.refresh.compute\n"
        f"graph = build(watchlist.parse({GROUPS!r}))\n"
        "print(sorted(name for name in sys.modules if name.startswith(('ema_assets.alerts', 'apprise'))))\n"
        f"told = build(watchlist.parse({row + GROUPS!r}))\n"
        "import ema_assets.refresh.raise_alerts\n"
        "print([name for name in sys.modules if name.startswith('apprise')], graph.fingerprint == told.fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[] False\n"


def test_the_kinds_of_alerts_do_not_change_the_fingerprint_of_the_graph() -> None:
    rows = [f'[[alert]]\non = ["{kind}"]\nto = ["${{H}}"]\n' for kind in ("crossover", "exit")]
    one, other = (build(watchlist.parse(row + GROUPS)) for row in rows)
    assert one.fingerprint == other.fingerprint
    assert one.alerts != other.alerts
