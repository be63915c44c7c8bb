"""What the kinds about repeated failures share."""

from collections.abc import Mapping

from ema_assets.model.declarations import Param

AFTER: Mapping[str, Param] = {"after_failures": Param(3, "After how many failures in a row to report", most=100)}
