"""Whether this process was loaded with the configuration that stands in the files now.

The code server builds the assets once; each run reads the files anew. A run of assets that only one of the two knows
would fail, so nothing is launched until the code location is reloaded.
"""

from ema_assets.errors import ConfigurationError
from ema_assets.pipeline.graph import Graph, configured
from ema_assets.settings import Settings


def complaint(loaded: Graph) -> str | None:
    """Why nothing may be launched by a process that was loaded with the assets of `loaded`; None when all is well."""
    settings = Settings.from_env()
    try:
        wanted = configured(settings)
    except ConfigurationError as error:
        return f"nothing is launched: {error}"
    if wanted.fingerprint == loaded.fingerprint:
        return None
    return (
        f"nothing is launched: the signals or strategies of {settings.watchlist_path.name} have changed; reload the "
        "code location (Deployment, Reload), or restart"
    )
