"""Loads all kernels at once, while a process waits for work, so that no run has to."""


def warm_up() -> None:
    """Load the machine code of every kernel: from the cache in a second, or compiled in five.

    Without this, a process computes its first bars in Python and loads the machine code once there are many.
    """
    from ema_assets.market import rollups
    from ema_assets.signals import ema_trend, recurrence
    from ema_assets.strategies.simulator import simulation

    rollups.warm_up()
    recurrence.warm_up()
    ema_trend.warm_up()
    simulation.warm_up()
