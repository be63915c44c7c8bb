"""Files: bars that come only from `ema-assets ingest` and are not requested from a provider."""

from ema_assets.model.symbols import ASSET_CLASSES, FROM_FILES
from ema_assets.providers.declaration import Provider, ProviderConfig

PROVIDER = Provider(
    name=FROM_FILES,
    title="your files",
    covers="every symbol in the files, as they spell it",
    open=None,
    config=ProviderConfig,
    timeframes={},
    asset_classes=frozenset(ASSET_CLASSES),
)
