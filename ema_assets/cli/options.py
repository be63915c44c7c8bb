"""Options that several commands share."""

import click

symbols_option = click.option(
    "--symbol", "symbols", multiple=True, help="Only this symbol; may be given several times."
)
