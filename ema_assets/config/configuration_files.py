"""Which files the configuration is read from. Nothing is read here."""

from pathlib import Path

from ema_assets.config.settings import Settings
from ema_assets.model.own_modules import all_files


def configuration_files(settings: Settings) -> list[Path]:
    """Return the watchlist, and the files of the user's signals and strategies with what they import."""
    return [settings.watchlist_path, *all_files((settings.signals_folder, settings.strategies_folder))]
