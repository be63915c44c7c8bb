"""Whether this process was loaded with the configuration that is in the files now.

The code server builds the assets once; each run reads the files again. A run of assets that only one of the two knows
would fail, so nothing is launched until the code location is reloaded.
"""

from ema_assets.config.configuration_files import configuration_files
from ema_assets.config.settings import Settings
from ema_assets.defs.namespace import ALONE, Namespace
from ema_assets.model.errors import ConfigurationError
from ema_assets.model.file_stamps import Stamp, stamps
from ema_assets.refresh.graph import Graph, configured


def configuration_drift(loaded: Graph, namespace: Namespace = ALONE) -> str | None:
    """Return why a process that was loaded with the assets of `loaded` may launch nothing; None when it may.

    Every tick calls this, so the files are read again only when one of them has changed.
    """
    try:
        return check_configuration(loaded, namespace)
    except ConfigurationError as error:
        return f"nothing is launched: {error}"


def check_configuration(loaded: Graph, namespace: Namespace = ALONE) -> str | None:
    """Return the same as `configuration_drift`, for the caller whose task it is to report configuration errors.

    Raises:
        ConfigurationError: when the files cannot be read.
    """
    settings = namespace.settings()
    seen = loaded.fingerprint, settings, stamps(configuration_files(settings))
    last = _last.get(namespace.id)
    if last is None or last[0] != seen:
        last = _last[namespace.id] = seen, _drift(loaded.fingerprint, settings)
    if isinstance(last[1], ConfigurationError):
        # A new exception: raising the same one again would add frames to it.
        raise ConfigurationError(str(last[1]))
    return last[1]


# Per namespace: the state that was checked, and the result.
_last: dict[str, tuple[tuple[str, Settings, tuple[Stamp, ...]], ConfigurationError | str | None]] = {}


def _drift(loaded: str, settings: Settings) -> ConfigurationError | str | None:
    try:
        wanted = configured(settings)
    except ConfigurationError as error:
        return error
    if wanted.fingerprint == loaded:
        return None
    return (
        f"nothing is launched: the signals or strategies of {settings.watchlist_path.name} have changed; reload the "
        "code location (Deployment, Reload), or restart"
    )
