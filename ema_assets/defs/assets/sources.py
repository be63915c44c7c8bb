"""Where bars come from, as external assets: they begin the lineage, before `ohlc`. Nothing here is ever run."""

from collections.abc import Sequence

from dagster import (
    AssetDep,
    AssetKey,
    AssetSpec,
    SpecificPartitionsPartitionMapping,
    StaticPartitionsDefinition,
)

from ema_assets.config.settings import Settings
from ema_assets.config.watchlist import Watchlist, load
from ema_assets.defs.assets.catalog import OWNER
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.model.counts import counted
from ema_assets.model.symbols import FROM_FILES
from ema_assets.model.timeframes import FETCHED
from ema_assets.providers import registry

# Any symbol can get bars from files, whichever provider it has.
FILES = FROM_FILES


def sources_in_use(settings: Settings) -> tuple[str, ...]:
    """Return the names of the providers that the watchlist of `settings` uses, followed by `FILES`."""
    path = settings.watchlist_path
    watched = load(path) if path.exists() else Watchlist((), {})
    asked = tuple(watched.by_provider(settings.provider)) if watched.instruments else (settings.provider,)
    return (*asked, FILES)


def source_specs(names: Sequence[str], namespace: Namespace = ALONE) -> list[AssetSpec]:
    """Return an external asset per source. Its partitions are the timeframes that the source serves."""
    return [_spec(name, namespace) for name in names]


def source_deps(names: Sequence[str], namespace: Namespace = ALONE) -> list[AssetDep]:
    """Return dependencies of `ohlc` on each of `names`, without any partition of theirs as an input.

    Dagster compares inputs by their events and considers a partition without named inputs stale. A source has no
    events, and the source of a bar is stored with the bar. So the source can change without making anything stale.
    """
    return [AssetDep(_key(name, namespace), partition_mapping=SpecificPartitionsPartitionMapping([])) for name in names]


def _key(name: str, namespace: Namespace) -> AssetKey:
    return AssetKey([*namespace.prefix, "source", "files" if name == FILES else name.replace(":", "_")])


def _spec(name: str, namespace: Namespace) -> AssetSpec:
    provider = registry.declared(name)
    title = provider.title[0].upper() + provider.title[1:]
    served = list(provider.timeframes) or [timeframe.key for timeframe in FETCHED]
    if name == FILES:
        said = (
            "Bars from your own files, of any timeframe, as many vendors write them. Results of the series in a file "
            "become stale.\n\n`ema-assets ingest downloads/` says what it understood, and stores it."
        )
        kinds = {"csv", "parquet"}
    else:
        prices = "Its prices are synthetic. " if provider.is_synthetic else ""
        said = (
            f"{title} has {provider.covers}. {prices}Bars of {_listed(served)} are requested, "
            f"{counted(provider.symbols_per_call, 'symbol')} per call; longer "
            "timeframes are rolled up. `ema-assets status` says which symbols it serves here."
        )
        kinds = {"api"}
    return AssetSpec(
        _key(name, namespace),
        description=said,
        group_name="sources",
        owners=[OWNER],
        kinds=kinds,
        tags={"ema_assets/source": "files" if name == FILES else "provider"},
        partitions_def=StaticPartitionsDefinition(served),
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
