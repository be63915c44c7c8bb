"""Tests of the delivery of alerts to channels: at least once, grouped into messages, outside quiet hours."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from ema_assets.alerts import sending
from ema_assets.alerts.channels import Channel
from ema_assets.alerts.messages import Message, NotSent
from ema_assets.alerts.quiet_hours import QuietHours
from ema_assets.alerts.subscriptions import Alerts, Subscription
from ema_assets.operations.deliver_alerts import Parcel, give_up_unwanted, pack, route, settle
from ema_assets.operations.maintain import Retention, maintain
from ema_assets.operations.sync_watchlist import sync
from ema_assets.reports.alert_states import alert_problems
from ema_assets.store import alert_delivery
from ema_assets.store.database import Database
from ema_assets_tests.alerts.raised import deliveries, raised
from ema_assets_tests.alerts.webhook import Webhook, webhook
from ema_assets_tests.refresh.exchange import utc, watch
from ema_assets_tests.waiting import wait_until

NOW = utc("2026-11-26 15:00:05")
MINE = Subscription("mine", ("crossover",), ("hook",))
# A token of a service that is never reached.
SECRET = "s3cret-t0ken"


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as served:
        yield served


def alerts_to(hook: Webhook, *subscriptions: Subscription, **more: str) -> Alerts:
    urls = {"hook": hook.url, **more}
    return Alerts(subscriptions or (MINE,), {name: Channel(name, url) for name, url in urls.items()})


def packed(database: Database, alerts: Alerts, now: datetime) -> list[Parcel]:
    with database.transaction() as transaction:
        route(transaction, alerts, now)
        return pack(transaction, alerts, now)


def delivered(database: Database, alerts: Alerts, now: datetime) -> list[str | None]:
    """Send due alerts through Apprise; return None for each message that was sent, otherwise the reason of failure."""
    outcomes: list[str | None] = []
    for parcel in packed(database, alerts, now):
        problem = sending.send(parcel.channel, parcel.message, {})
        outcomes.append(None if problem is None else problem.reason)
        with database.transaction() as transaction:
            settle(transaction, parcel, problem, now)
    return outcomes


def test_five_hundred_crossovers_of_one_tick_are_one_message_per_channel(database: Database, hook: Webhook) -> None:
    with webhook() as other:
        alerts = alerts_to(hook, replace(MINE, to=("hook", "other")), other=other.url)
        assert raised(database, 500, at=NOW) == 500
        assert delivered(database, alerts, NOW) == [], "they wait for each other"
        assert delivered(database, alerts, NOW + timedelta(seconds=2)) == [None, None]
        assert delivered(database, alerts, NOW + timedelta(seconds=4)) == []
        for each in (hook, other):
            assert each.titles == ["500 crossovers"]
            assert each.lines[0] == "S000 1h: bullish"
            assert each.lines[-1] == "… and 470 more; `ema-assets alerts log` has all"
    assert {state for _, _, state, _ in deliveries(database)} == {"sent"}
    assert len(deliveries(database)) == 1000
    with database.transaction() as transaction:
        logged = alert_delivery.log(transaction, 2000)
        assert alert_problems(transaction, NOW) == []
    assert logged.height == 1000
    assert set(logged["settled_at"]) == {NOW + timedelta(seconds=2)}


def test_a_message_is_no_longer_than_its_channel_allows(database: Database, hook: Webhook) -> None:
    alerts = alerts_to(hook, replace(MINE, to=("hook", "short")), short=hook.url)
    raised(database, 20, at=NOW)
    with database.transaction() as transaction:
        route(transaction, alerts, NOW)
        found = pack(
            transaction, alerts, NOW + timedelta(seconds=2), room=lambda channel: 90 if channel.name == "short" else 900
        )
    lines = {each.channel.name: each.message.body.splitlines() for each in found}
    assert len(lines["hook"]) == 20
    assert lines["short"] == [*lines["hook"][:2], "… and 18 more; `ema-assets alerts log` has all"]


def test_the_first_due_alert_takes_along_waiting_alerts_of_its_subscription_only(
    database: Database, hook: Webhook
) -> None:
    alerts = alerts_to(
        hook,
        replace(MINE, group_seconds=60),
        Subscription("digest", ("crossover",), ("hook",), group_seconds=3600),
    )
    raised(database, first=50, subscription="digest", at=NOW)
    assert delivered(database, alerts, NOW) == []
    for number, seconds in enumerate((0, 5, 35)):
        at = NOW + timedelta(seconds=seconds)
        raised(database, first=number, at=at)
        assert delivered(database, alerts, at) == []
    assert delivered(database, alerts, NOW + timedelta(seconds=59)) == [], "what comes along pulls nothing forward"
    assert delivered(database, alerts, NOW + timedelta(seconds=60)) == [None]
    assert hook.titles == ["3 crossovers"]
    assert hook.lines == ["S000 1h: bullish", "S001 1h: bullish", "S002 1h: bullish"]
    # The next alert waits for its own minute, and the digest for its own hour.
    later = NOW + timedelta(seconds=61)
    raised(database, first=3, at=later)
    assert delivered(database, alerts, later + timedelta(seconds=59)) == []
    assert delivered(database, alerts, later + timedelta(seconds=60)) == [None]
    raised(database, first=51, subscription="digest", at=NOW + timedelta(minutes=59))
    assert delivered(database, alerts, NOW + timedelta(minutes=59)) == []
    assert delivered(database, alerts, NOW + timedelta(hours=1)) == [None]
    assert hook.titles[1:] == ["crossover: S003 1h", "2 crossovers"]


def test_a_retried_message_includes_newer_alerts_and_is_sent_only_after_its_pause(
    database: Database, hook: Webhook
) -> None:
    with webhook() as other:
        alerts = alerts_to(hook, replace(MINE, to=("hook", "other"), group_seconds=60), other=other.url)
        hook.status = 503
        raised(database, at=NOW)
        tried = NOW + timedelta(seconds=60)
        outcomes = delivered(database, alerts, tried)
        assert [outcome is None for outcome in outcomes] == [False, True]
        hook.status = 200
        raised(database, first=1, at=tried + timedelta(seconds=1))
        for seconds in (1, 4, 4.9):
            assert delivered(database, alerts, tried + timedelta(seconds=seconds)) == [], "the pause is 5 s"
        assert delivered(database, alerts, tried + timedelta(seconds=5)) == [None]
        assert (hook.titles[-1], other.titles) == ("2 crossovers", ["crossover: S000 1h"])
        assert delivered(database, alerts, tried + timedelta(seconds=61)) == [None], (
            "the other channel waits for its own"
        )
        assert (len(hook.received), other.titles[1:]) == (2, ["crossover: S001 1h"])


def test_alerts_that_are_taken_along_respect_quiet_hours_and_limits(database: Database, hook: Webhook) -> None:
    night = QuietHours(time(22), time(7), ZoneInfo("Europe/Berlin"))
    alerts = alerts_to(hook, replace(MINE, quiet=night, messages_per_hour=1, group_seconds=600))
    raised(database, at=utc("2026-11-26 20:40"))
    assert delivered(database, alerts, utc("2026-11-26 20:50")) == [None]
    # The first of these would be due at 20:55. The limit allows it at 21:50, which is within quiet hours.
    for number, text in enumerate(("20:45", "20:52", "21:20"), start=1):
        raised(database, first=number, at=utc(f"2026-11-26 {text}"))
        assert delivered(database, alerts, utc(f"2026-11-26 {text}")) == []
    for text in ("2026-11-26 20:55", "2026-11-26 21:50", "2026-11-27 05:59"):
        assert delivered(database, alerts, utc(text)) == []
    raised(database, first=4, at=utc("2026-11-27 05:59:30"))
    assert delivered(database, alerts, utc("2026-11-27 06:00")) == [None]
    assert hook.titles[1:] == ["4 crossovers"]


def test_alerts_about_synthetic_prices_are_labelled_whatever_the_watchlist_has_when_they_are_sent(
    database: Database, hook: Webhook
) -> None:
    # The watchlist has neither of these symbols.
    raised(database, at=NOW, is_synthetic=True)
    assert delivered(database, alerts_to(hook), NOW + timedelta(seconds=2)) == [None]
    raised(database, first=1, at=NOW)
    assert delivered(database, alerts_to(hook), NOW + timedelta(seconds=4)) == [None]
    assert hook.titles == ["[SYNTHETIC prices] crossover: S000 1h", "crossover: S001 1h"]


def test_an_alert_that_is_raised_again_is_not_added_again(database: Database, hook: Webhook) -> None:
    assert raised(database, 3, at=NOW) == 3
    assert delivered(database, alerts_to(hook), NOW + timedelta(seconds=2)) == [None]
    assert raised(database, 4, at=NOW + timedelta(hours=1)) == 1
    assert delivered(database, alerts_to(hook), NOW + timedelta(hours=2)) == [None]
    assert hook.titles == ["3 crossovers", "crossover: S003 1h"]


def test_a_crash_before_sending_loses_no_alert_and_a_crash_before_marking_sends_it_again(
    database: Database, hook: Webhook
) -> None:
    alerts, later = alerts_to(hook), NOW + timedelta(seconds=2)
    raised(database, 2, at=NOW)
    # A crash after packing and before sending.
    assert len(packed(database, alerts, later)) == 1
    (parcel,) = packed(database, alerts, later)
    assert sending.send(parcel.channel, parcel.message, {}) is None
    # A crash after sending and before marking the alerts as sent.
    assert delivered(database, alerts, later + timedelta(seconds=1)) == [None]
    assert hook.titles == ["2 crossovers"] * 2
    assert delivered(database, alerts, later + timedelta(minutes=1)) == []


@pytest.mark.broad
def test_pauses_of_a_failing_channel_grow_and_do_not_delay_other_channels(database: Database, hook: Webhook) -> None:
    with webhook() as dead:
        dead.status = 503
        both = replace(MINE, to=("dead", "hook"))
        alerts = alerts_to(hook, both, dead=dead.url.replace("/hook", f"/{SECRET}?token={SECRET}"))
        now, tried = NOW, []
        for number in range(40):
            raised(database, first=number, at=now)
            now += timedelta(seconds=2)
            before = len(dead.received)
            delivered(database, alerts, now)
            if len(dead.received) > before:
                tried.append(now)
                assert len(str(dead.received[-1]["message"]).splitlines()) == min(number + 1, 31)
            assert len(hook.received) == number + 1
            now += timedelta(seconds=3)
        pauses = [(after - before).total_seconds() for before, after in zip(tried, tried[1:], strict=False)]
        assert pauses == [5, 10, 20, 40, 80]
        with database.transaction() as transaction:
            (problem,) = alert_problems(transaction, now)
        assert problem.startswith(
            "alerts: dead takes no message, tried 6 times, again at 15:05:22 UTC; 40 alerts wait: "
        )
        assert "503" in problem
        assert SECRET not in problem

        # The channel answers again: one message has all waiting alerts.
        dead.status = 200
        assert delivered(database, alerts, tried[-1] + timedelta(seconds=160)) == [None]
        assert dead.titles[-1] == "40 crossovers"
        with database.transaction() as transaction:
            assert alert_problems(transaction, now) == []


def test_pauses_have_an_upper_limit_and_old_alerts_are_given_up(database: Database, hook: Webhook) -> None:
    hook.status = 500
    alerts, now = alerts_to(hook), NOW
    raised(database, 2, at=NOW)
    tried: list[datetime] = []
    due: datetime | None = NOW
    while due is not None:
        now = due
        with database.transaction() as transaction:
            route(transaction, alerts, now)
            for parcel in pack(transaction, alerts, now):
                tried.append(now)
                settle(transaction, parcel, NotSent("no answer"), now)
            due = alert_delivery.next_due(transaction)
    pauses = [(after - before).total_seconds() for before, after in zip(tried, tried[1:], strict=False)]
    assert pauses[:8] == [5 * 2**number for number in range(8)]
    assert set(pauses[8:]) == {alert_delivery.LONGEST_PAUSE_SECONDS}
    assert tried[-1] <= NOW + alert_delivery.GIVEN_UP_AFTER + timedelta(seconds=2)
    assert deliveries(database) == [(symbol, "hook", "given up", "no answer") for symbol in ("S000", "S001")]
    with database.transaction() as transaction:
        found = alert_problems(transaction, now)
    assert found[-1].startswith("alerts: 2 for hook were given up in the last 24 hours; `ema-assets alerts log --state")


def test_the_pause_that_a_service_requests_is_respected(database: Database, hook: Webhook) -> None:
    alerts, now = alerts_to(hook), NOW + timedelta(seconds=2)
    raised(database, at=NOW)

    def pause() -> float:
        with database.transaction() as transaction:
            due = alert_delivery.next_due(transaction)
        assert due is not None
        return (due - now).total_seconds()

    hook.status, hook.retry_after = 429, "90"
    assert "429" in str(delivered(database, alerts, now)[0])
    assert pause() == 90
    assert delivered(database, alerts, now + timedelta(seconds=80)) == []
    # If the service states a shorter pause, none or an unreadable one, our own applies. It doubles with each failure.
    for said, seconds in (("1", 10), (None, 20), ("soon", 40), ("-5", 80), ("1e9000", 160)):
        now += timedelta(hours=1)
        hook.status, hook.retry_after = 503, said
        assert delivered(database, alerts, now) != [], said
        assert pause() == seconds, said
    # No pause is longer than the time after which waiting alerts are given up.
    now += timedelta(minutes=10)
    hook.retry_after = "864000"
    delivered(database, alerts, now)
    assert timedelta(seconds=pause()) == alert_delivery.GIVEN_UP_AFTER
    # A message that was accepted ends the pause, even if the response states another one.
    with database.transaction() as transaction:
        alert_delivery.end_pauses(transaction, ["hook"])
    hook.status = 200
    assert delivered(database, alerts, now) == [None]


def test_alerts_beyond_the_limit_of_messages_wait_and_are_sent_together(database: Database, hook: Webhook) -> None:
    alerts, now = (
        alerts_to(
            hook,
            replace(MINE, messages_per_hour=2, group_seconds=0),
            MINE.__class__("free", ("crossover",), ("hook",), group_seconds=0),
        ),
        NOW,
    )
    for number in range(5):
        raised(database, first=number, at=now)
        delivered(database, alerts, now)
        now += timedelta(minutes=1)
    assert len(hook.received) == 2
    with database.transaction() as transaction:
        assert alert_delivery.next_due(transaction) == NOW + timedelta(hours=1), "nothing to do until then"
    raised(database, subscription="free", at=now)
    assert delivered(database, alerts, now) == [None], "the limit is another's"
    # The first message was an hour ago.
    assert delivered(database, alerts, NOW + timedelta(minutes=59)) == []
    assert delivered(database, alerts, NOW + timedelta(minutes=60, seconds=1)) == [None]
    assert hook.titles[-1] == "3 crossovers"


def test_what_is_written_about_an_alert_to_a_channel_leaves_all_others_alone(database: Database, hook: Webhook) -> None:
    alerts = alerts_to(hook, replace(MINE, to=("hook", "other"), group_seconds=600), other=hook.url)
    raised(database, 2, at=NOW)
    assert delivered(database, alerts, NOW) == []
    due, until = NOW + timedelta(minutes=10), NOW + timedelta(hours=1)
    written = """
        SELECT a.symbol, d.channel, d.due_at, d.taken_by
        FROM market.alert_delivery d JOIN market.alert a ON a.id = d.alert_id ORDER BY 1, 2
        """
    with database.transaction() as transaction:
        first = transaction.query("SELECT min(id) AS id FROM market.alert")["id"].to_list()
        alert_delivery.postpone(transaction, "hook", first, until)
        alert_delivery.note_taken(transaction, "hook", first, ["a"], ["a", "b"], NOW)
        found = transaction.query(written).rows()
    assert found == [
        ("S000", "hook", until, ["a"]),
        *((*each, due, []) for each in (("S000", "other"), ("S001", "hook"), ("S001", "other"))),
    ]


def test_alerts_wait_during_quiet_hours_and_are_sent_as_one_message_afterwards(
    database: Database, hook: Webhook
) -> None:
    night = QuietHours(time(22), time(7), ZoneInfo("Europe/Berlin"))
    alerts = alerts_to(hook, replace(MINE, quiet=night))
    for number, text in enumerate(("2026-11-26 21:00", "2026-11-26 23:30", "2026-11-27 05:59")):
        raised(database, first=number, at=utc(text))
        assert delivered(database, alerts, utc(text) + timedelta(seconds=5)) == []
    assert delivered(database, alerts, utc("2026-11-27 05:59:58")) == []
    assert delivered(database, alerts, utc("2026-11-27 06:00")) == [None]
    assert hook.titles == ["3 crossovers"]
    # A channel that fails in the evening is tried again in the morning.
    raised(database, first=9, at=utc("2026-11-27 20:59"))
    hook.status = 500
    assert delivered(database, alerts, utc("2026-11-27 20:59:30")) != [None]
    hook.status = 200
    assert delivered(database, alerts, utc("2026-11-27 21:30")) == []
    assert delivered(database, alerts, utc("2026-11-28 06:00")) == [None]


def test_alerts_of_removed_subscriptions_or_channels_are_not_sent(database: Database, hook: Webhook) -> None:
    raised(database, subscription="gone", at=NOW)
    raised(database, first=1, at=NOW)
    later = NOW + timedelta(seconds=2)
    assert len(packed(database, alerts_to(hook, replace(MINE, to=("hook", "old")), old="ntfy://nowhere"), later)) == 2
    # After that the watchlist no longer names the channel `old`.
    assert delivered(database, alerts_to(hook), later) == [None]
    assert deliveries(database) == [
        ("S001", "hook", "sent", None),
        ("S001", "old", "given up", "no alert names the channel any more"),
    ]
    with database.transaction() as transaction:
        assert alert_delivery.log(transaction, 9)["state"].to_list() == ["sent", "given up", "nobody"]


def test_alerts_whose_row_or_channel_was_removed_are_given_up_with_a_reason(database: Database, hook: Webhook) -> None:
    other = Subscription("other", ("crossover",), ("hook", "second"))
    raised(database, at=NOW)
    raised(database, subscription="other", first=1, at=NOW)
    alerts = alerts_to(hook, MINE, other, second="ntfy://127.0.0.1:1/topic")
    soon, later = NOW + timedelta(seconds=1), NOW + timedelta(hours=1)
    with database.transaction() as transaction:
        route(transaction, alerts, soon)
    third = Subscription("third", ("crossover",), ("second",))
    alerts = alerts_to(hook, replace(other, to=("hook",)), third, second="ntfy://127.0.0.1:1/topic")
    assert delivered(database, alerts, later) == [None]
    assert hook.lines == ["S001 1h: bullish"]
    assert deliveries(database) == [
        ("S000", "hook", "given up", "its [[alert]] was removed from the watchlist"),
        ("S001", "hook", "sent", None),
        ("S001", "second", "given up", "its [[alert]] does not name the channel any more"),
    ]
    with database.transaction() as transaction:
        first, _ = alert_problems(transaction, later)
    assert first.startswith("alerts: 1 for hook was given up in the last 24 hours")


def test_giving_up_what_nobody_wants_keeps_alerts_that_were_not_handed_over_yet(
    database: Database, hook: Webhook
) -> None:
    alerts = alerts_to(hook, replace(MINE, group_seconds=0))
    raised(database, at=NOW)
    with database.transaction() as transaction:
        give_up_unwanted(transaction, alerts, NOW)
    assert delivered(database, alerts, NOW) == [None]


def test_no_alert_waits_for_a_later_row_of_the_same_name_after_the_last_row_is_removed(
    database: Database, hook: Webhook
) -> None:
    raised(database)
    with database.transaction() as transaction:
        route(transaction, alerts_to(hook), NOW)
    raised(database, first=1)
    sync(database, replace(watch({"BTC-USD": "24/7"}), alerts=None), NOW)
    with database.transaction() as transaction:
        log = alert_delivery.log(transaction, 9)
    assert log.select("symbol", "state", "note").rows() == [
        ("S001", "nobody", None),
        ("S000", "given up", "its [[alert]] was removed from the watchlist"),
    ]
    assert delivered(database, alerts_to(hook), NOW + timedelta(days=9)) == []


def test_a_failing_channel_is_no_longer_reported_when_no_alert_names_it(database: Database, hook: Webhook) -> None:
    hook.status = 503
    raised(database, at=NOW)
    later = NOW + timedelta(seconds=2)
    assert delivered(database, alerts_to(hook), later) != [None]
    with database.transaction() as transaction:
        (problem,) = alert_problems(transaction, later, {"hook"})
        assert problem.startswith("alerts: hook takes no message, tried once, again at 15:00:12 UTC; 1 alert waits: ")
        # No alerts are delivered to the channel if the watchlist has no alerts, or none that names it.
        assert alert_problems(transaction, later + timedelta(hours=1), ()) == []
        assert alert_problems(transaction, later + timedelta(hours=1), {"other"}) == []
    with webhook() as other:
        alerts = alerts_to(hook, replace(MINE, to=("other",)), other=other.url)
        assert delivered(database, alerts, later) == []
    with database.transaction() as transaction:
        (problem,) = alert_problems(transaction, later)
        assert problem.startswith("alerts: 1 for hook was given up in the last 24 hours")
        assert alert_problems(transaction, later + timedelta(days=2)) == []


def test_a_failing_channel_without_waiting_alerts_is_reported_without_a_time_of_its_next_attempt(
    database: Database, hook: Webhook
) -> None:
    hook.status = 503
    raised(database, at=NOW)
    delivered(database, alerts_to(hook), NOW + timedelta(seconds=2))
    assert delivered(database, alerts_to(hook), NOW + timedelta(hours=7)) == []
    with database.transaction() as transaction:
        problem, _ = alert_problems(transaction, NOW + timedelta(hours=7), {"hook"})
    assert problem.startswith("alerts: hook takes no message, tried once, and again with the next alert: ")


def test_alerts_that_are_not_being_delivered_are_reported(database: Database, hook: Webhook) -> None:
    raised(database, at=NOW)
    with database.transaction() as transaction:
        assert alert_problems(transaction, NOW + timedelta(minutes=1)) == []
        (found,) = alert_problems(transaction, NOW + timedelta(minutes=3))
    assert found.startswith("alerts: some wait and are not being delivered; ")
    packed(database, alerts_to(hook), NOW)
    with database.transaction() as transaction:
        assert alert_problems(transaction, NOW + timedelta(minutes=3)) == [found]


def test_alerts_are_deleted_after_a_year_unless_they_still_wait(database: Database, hook: Webhook) -> None:
    alerts = alerts_to(hook, replace(MINE, group_seconds=0))
    raised(database, 2, at=NOW)
    delivered(database, alerts, NOW)
    raised(database, 1, first=5, at=NOW)
    rules = Retention(14, 90, None)
    assert maintain(database, rules, NOW + timedelta(days=364), lambda _: None).alerts == 0
    done = maintain(database, rules, NOW + timedelta(days=366), lambda _: None)
    assert done.alerts == 2
    assert "Deleted 2 alerts after 365 days" in done.sentences(rules)
    assert [symbol for symbol, *_ in deliveries(database)] == []
    assert len(packed(database, alerts, NOW + timedelta(days=366))) == 1


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nosuchservice://host/path", "is not a URL that Apprise can use: `nosuchservice://…`"),
        ("tgram://x", "is not a URL that Apprise can use: `tgram://…`"),
        (
            "https://hooks.example.com/x",
            "; your own web hook is written `jsons://` in place of `https://`, and http",
        ),
        ("json://127.0.0.1:1/hook", "JSON"),
    ],
)
def test_the_error_of_a_channel_states_why_it_cannot_be_used(url: str, said: str) -> None:
    message = _message()
    problem = sending.send(Channel("phone", url), message, {})
    assert problem is not None
    assert said in problem.reason


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("query", ["", "?redirect=yes"])
def test_a_redirect_is_a_failure_that_names_only_the_host_it_leads_to(
    database: Database, hook: Webhook, status: int, query: str
) -> None:
    with webhook() as other:
        hook.status, hook.location = status, f"http://me:{SECRET}@127.0.0.1:{other.port}/{SECRET}?token={SECRET}"
        alerts = Alerts((MINE,), {"hook": Channel("hook", hook.url + query)})
        raised(database, at=NOW)
        (problem,) = delivered(database, alerts, NOW + timedelta(seconds=2))
        assert (other.gets, other.received) == (0, []), "it is not followed"
    assert problem == (
        f"answered with a redirect (error={status}) to http://127.0.0.1:{other.port}, which is not followed, "
        "because the message would be lost; name the address that it leads to in the channel"
    )
    assert deliveries(database) == [("S000", "hook", "waiting", None)]
    # A path refers to the same host.
    hook.location = f"/{SECRET}"
    (problem,) = delivered(database, alerts, NOW + timedelta(minutes=1))
    assert f" to http://127.0.0.1:{hook.port}, " in str(problem)


def test_errors_of_a_service_contain_no_secrets(hook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    hook.status = 404
    for template, env in (
        ("json://user:${PASSWORD}@127.0.0.1:${PORT}/${TOKEN}", {"PASSWORD": "hunter2secret", "TOKEN": SECRET}),
        (f"json://127.0.0.1:${{PORT}}/{SECRET}", {}),
    ):
        problem = sending.send(Channel("phone", template), _message(), {"PORT": str(hook.port), **env})
        assert problem is not None
        assert "404" in problem.reason
        for secret in ("hunter2secret", SECRET):
            assert secret not in problem.reason
    assert "hunter2secret" not in caplog.text


def test_only_alerts_about_trouble_are_sent_as_warnings(hook: Webhook) -> None:
    for message in (_message(), replace(_message(), is_trouble=False)):
        assert sending.send(Channel("phone", hook.url), message, {}) is None
    assert [message["type"] for message in hook.received] == ["warning", "info"]


def test_channels_that_fail_at_the_same_time_have_their_own_reasons(hook: Webhook) -> None:
    hook.status = 500
    hook.gate.clear()
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(sending.send, Channel("slow", hook.url), _message(), {})
        try:
            wait_until(lambda: hook.received, "the message arrives")
            other = sending.send(Channel("dead", "json://127.0.0.1:1/hook"), _message(), {})
        finally:
            hook.gate.set()
    of_slow = slow.result()
    assert of_slow is not None
    assert other is not None
    assert ("500" in of_slow.reason, "500" in other.reason) == (True, False)
    assert ("refused" in of_slow.reason, "onnection" in of_slow.reason) == (False, False)
    assert "refused" in other.reason


def _message() -> Message:
    return Message("title", "body", is_trouble=True)
