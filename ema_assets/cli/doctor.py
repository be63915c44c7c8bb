"""The command `doctor`: one line per finding. The checks are in the room `doctor`."""

import os
from contextlib import suppress
from dataclasses import asdict

import click

from ema_assets.cli import rendering
from ema_assets.cli.commands import Command
from ema_assets.doctor.discovery import Found
from ema_assets.model.counts import counted
from ema_assets.model.errors import ConfigurationError


class _Doctor(Command):
    """A command that also runs with wrong settings, because it reports them."""

    def prepare(self) -> None:
        """Prepare the process as far as possible."""
        with suppress(ConfigurationError):
            super().prepare()


@click.command("doctor", cls=_Doctor)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
@click.option("--online", "is_online", is_flag=True, help="Also ask every provider for a week of one symbol.")
def doctor_command(*, as_json: bool, is_online: bool) -> None:
    """Look at database, disk, calendars, clock, providers, versions and files, and say what to do.

    Starts nothing and changes nothing. The exit code is 1 when there is an error.
    """
    from ema_assets.doctor.discovery import examine

    found = examine(os.environ, is_online=is_online)
    errors, warnings = (sum(each.finding.level == level for each in found) for level in ("error", "warning"))
    if as_json:
        rows = [{"check": each.check, **asdict(each.finding)} for each in found]
        rendering.print_json({"errors": errors, "warnings": warnings, "findings": rows})
    else:
        _print(found)
        click.echo(f"{counted(errors, 'error')}, {counted(warnings, 'warning')}.")
    if errors:
        raise click.exceptions.Exit(1)


def _print(found: list[Found]) -> None:
    width = max(len(each.check) for each in found)
    for each in found:
        finding = each.finding
        remedy = f": {finding.remedy}" if finding.remedy else ""
        click.echo(f"{finding.level:<8} {each.check:<{width}}  {finding.text}{remedy}")
