"""The command `ema-assets`, also as `python -m ema_assets`. Its commands are in `ema_assets.cli`."""

import sys

# What a shell says of a program that Ctrl-C has ended: 128 and the number of SIGINT.
_INTERRUPTED = 130


def main() -> None:
    """Run the command line. Ctrl-C while it is still imported, in the first second, causes no traceback."""
    # SIGINT keeps its handler: polars adds its own to the one that it meets, by which Ctrl-C ends a query.
    try:
        from ema_assets.cli import main as command_line
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    command_line()


if __name__ == "__main__":
    main()
