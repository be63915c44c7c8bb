"""The rows `[[alert]]` of a watchlist as records: which alerts go to which channels, and when. Parses nothing."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ema_assets.alerts.channels import Channel
from ema_assets.alerts.declaration import SeriesKind, TroubleKind
from ema_assets.alerts.discovery import discover
from ema_assets.alerts.quiet_hours import QuietHours
from ema_assets.model.declarations import Params

GROUP_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which alerts go to which channels.

    Attributes:
        name: its name in the log.
        kinds: names of kinds of alerts.
        to: names of channels.
        symbols: only alerts about these symbols; None for all.
        timeframes: only on these timeframes, by their keys; None for all.
        strategies: only of these strategies; None for all.
        averages: only trends of these averages, such as `12/26`; None for all, or for those that the strategies use.
        params: all parameters of its kinds.
        quiet: when its alerts wait.
        messages_per_hour: at most this many messages go to a channel; more alerts wait and come together.
        group_seconds: how long the first alert of a message waits for others, which are then sent along with it.
    """

    name: str
    kinds: tuple[str, ...]
    to: tuple[str, ...]
    symbols: tuple[str, ...] | None = None
    timeframes: tuple[str, ...] | None = None
    strategies: tuple[str, ...] | None = None
    averages: tuple[str, ...] | None = None
    params: Params = field(default_factory=dict)
    quiet: QuietHours | None = None
    messages_per_hour: int | None = None
    group_seconds: int = GROUP_SECONDS

    def series_kinds(self) -> list[SeriesKind]:
        """Return those of its kinds that are found in what a run computes."""
        return [kind for name in self.kinds if isinstance(kind := discover()[name], SeriesKind)]

    def trouble_kinds(self) -> list[TroubleKind]:
        """Return those of its kinds that are about the product itself."""
        return [kind for name in self.kinds if isinstance(kind := discover()[name], TroubleKind)]

    def is_about(self, timeframe: str, strategy: str | None, averages: str | None = None) -> bool:
        """Return whether it covers alerts on `timeframe`, of `strategy` and of `averages`; None is any."""
        return (
            (self.timeframes is None or timeframe in self.timeframes)
            and (strategy is None or self.strategies is None or strategy in self.strategies)
            and (averages is None or self.averages is None or averages in self.averages)
        )

    def due_at(self, raised_at: datetime, now: datetime) -> datetime:
        """Return when its alert raised at `raised_at` is sent, as known `now`; an earlier alert may take it along."""
        due = raised_at + timedelta(seconds=self.group_seconds)
        quiet_until = None if self.quiet is None else self.quiet.until(max(due, now))
        return due if quiet_until is None else quiet_until


@dataclass(frozen=True, slots=True)
class Alerts:
    """All subscriptions of a watchlist, and the channels that they name, by name."""

    subscriptions: tuple[Subscription, ...]
    channels: Mapping[str, Channel] = field(hash=False)

    def named(self, name: str) -> Subscription | None:
        """Return the subscription with this name, or None."""
        return next((each for each in self.subscriptions if each.name == name), None)

    def used(self) -> dict[str, Channel]:
        """Return the channels that a subscription sends to, by name."""
        wanted: Collection[str] = {name for each in self.subscriptions for name in each.to}
        return {name: channel for name, channel in self.channels.items() if name in wanted}
