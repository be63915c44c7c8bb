"""Dagster's webserver behind a check of Host and Origin: `python -m ema_assets.defs.webserver`, with its own options.

Dagster 1.13 has no way to wrap its app, so the function that makes it is replaced in this process. When Dagster no
longer has that function, nothing is served.
"""

from typing import Any

from dagster_webserver import cli

from ema_assets.model.same_origin import SameOriginOnly

_cli: Any = cli
_make_app = _cli.create_app_from_workspace_process_context


def _guarded(*arguments: Any, **options: Any) -> SameOriginOnly:
    return SameOriginOnly(_make_app(*arguments, **options))


def main() -> None:
    """Serve until a signal arrives."""
    _cli.create_app_from_workspace_process_context = _guarded
    _cli.main()


if __name__ == "__main__":
    main()
