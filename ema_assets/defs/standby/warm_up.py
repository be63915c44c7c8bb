"""What the first run of a process would wait for and a standby process does beforehand, and again between runs.

Only for what the code location has imported: one that is not ours pays for nothing.
"""

import sys


def warm_up() -> None:
    """Open connections and import what runs import on first use. Called after loading, and after each run."""
    if "ema_assets.defs.resources" in sys.modules:
        from ema_assets.defs import resources

        resources.stand_by()
    # Kernels that are compiled on first use belong here: one line, `strategies.warm_up()`.
