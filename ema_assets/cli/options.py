"""Options that several commands share."""

import click

symbols_option = click.option(
    "--symbol", "symbols", multiple=True, help="Only this symbol; may be given several times."
)
group_option = click.option(
    "--group",
    "groups",
    multiple=True,
    help="Only the symbols of this group of the watchlist; may be given several times.",
)
