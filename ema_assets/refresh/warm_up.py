"""All kernels at once: what a process does that waits for work, so that no run pays for them."""


def warm_up() -> None:
    """Make the machine code of every kernel ready: read from its cache in a second, or compiled in five.

    Without it a process runs few bars as Python, and gets the machine code when it sees many.
    """
    from ema_assets.market import rollups
    from ema_assets.signals import ema_trend, recurrence
    from ema_assets.strategies.simulator import simulation

    rollups.warm_up()
    recurrence.warm_up()
    ema_trend.warm_up()
    simulation.warm_up()
