"""Whether this process was loaded with the configuration that stands in the files now.

The code server builds the assets once; each run reads the files anew. A run of assets that only one of the two knows
would fail, so nothing is launched until the code location is reloaded.
"""

from functools import lru_cache

from ema_assets.config.settings import Settings
from ema_assets.defs.stamps import Stamp, configuration_files, stamps
from ema_assets.model.errors import ConfigurationError
from ema_assets.refresh.graph import Graph, configured


def configuration_drift(loaded: Graph) -> str | None:
    """Why nothing may be launched by a process that was loaded with the assets of `loaded`; None when all is well.

    Asked in every tick, so the files are read again only when one of them has changed.
    """
    settings = Settings.from_env()
    return _drift(loaded.fingerprint, settings, stamps(configuration_files(settings)))


@lru_cache(maxsize=1)
def _drift(loaded: str, settings: Settings, _stamps: tuple[Stamp, ...]) -> str | None:
    try:
        wanted = configured(settings)
    except ConfigurationError as error:
        return f"nothing is launched: {error}"
    if wanted.fingerprint == loaded:
        return None
    return (
        f"nothing is launched: the signals or strategies of {settings.watchlist_path.name} have changed; reload the "
        "code location (Deployment, Reload), or restart"
    )
