"""What a standby process does in advance so that the first run of a process need not wait for it.

It covers only what the code location has imported: a location that is not ours pays for nothing.
"""

import sys
from contextlib import suppress


def warm_up() -> None:
    """Import what runs import on first use, and open connections. Called once, after the code location is loaded."""
    if "ema_assets.refresh.clients" in sys.modules:
        _load_clients()
    stand_by()


def make_kernels() -> bool:
    """Compile the kernels: a second from the cache, some seconds the first time on a machine.

    It is separate from `warm_up` because no run should wait for it: a run with few bars does without. Return False
    while another process compiles: the first time on a machine, all would compile the same while history is loaded.
    """
    if "ema_assets.refresh.compute" not in sys.modules:
        return True
    from ema_assets.model.kernels import compiling
    from ema_assets.refresh import warm_up as kernels

    with compiling() as it_is_us:
        if it_is_us:
            kernels.warm_up()
    return it_is_us


def stand_by() -> None:
    """Have a connection open for the next run. Called after loading, and after each run."""
    if "ema_assets.defs.resources" in sys.modules:
        from ema_assets.defs import resources

        resources.stand_by()


def _load_clients() -> None:
    """Make a client of each provider in use, without a call; httpx alone takes a fifth of a second to import."""
    from ema_assets.config import watchlist
    from ema_assets.config.settings import Settings
    from ema_assets.model.errors import EmaAssetsError
    from ema_assets.refresh.clients import open_provider

    settings = Settings.from_env()
    # An error in a provider's configuration is reported by the run that needs the provider.
    with suppress(EmaAssetsError):
        for name in watchlist.of(settings).providers(settings.provider):
            open_provider(settings, name)
