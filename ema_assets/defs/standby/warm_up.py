"""What the first run of a process would wait for and a standby process does beforehand.

Only for what the code location has imported: one that is not ours pays for nothing.
"""

import sys
from contextlib import suppress


def warm_up() -> None:
    """Once, after the code location is loaded: import what runs import on first use, and open connections."""
    if "ema_assets.refresh.clients" in sys.modules:
        _load_clients()
    stand_by()


def make_kernels() -> bool:
    """Make machine code of the kernels: a second from its cache, some seconds the first time on a machine.

    Apart from `warm_up`, for no run shall wait for it: one that has few bars does without. False while another process
    is at it: the first time on a machine all of them would compile the same, while history is loaded.
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
    """After loading, and after each run: have a connection open for the next one."""
    if "ema_assets.defs.resources" in sys.modules:
        from ema_assets.defs import resources

        resources.stand_by()


def _load_clients() -> None:
    """Make a client of each provider in use, which makes no call; httpx alone takes a fifth of a second to import."""
    from ema_assets.config import watchlist
    from ema_assets.config.settings import Settings
    from ema_assets.model.errors import EmaAssetsError
    from ema_assets.refresh.clients import open_provider

    settings = Settings.from_env()
    # What is wrong with one is for the run to say that needs it.
    with suppress(EmaAssetsError):
        for name in watchlist.of(settings).providers(settings.provider):
            open_provider(settings, name)
