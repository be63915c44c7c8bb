"""`python -m ema_assets` is `ema-assets`."""

from ema_assets.cli import main

main()
