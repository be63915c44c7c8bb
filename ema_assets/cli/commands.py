"""How every command behaves: the order of help, what happens before a command runs, and how errors are shown."""

import sys
from contextlib import nullcontext
from io import TextIOWrapper
from typing import Any

import click

from ema_assets.cli import environment, failures, rendering

# Longer than any sentence.
_WHOLE = 1_000


class Command(click.Command):
    """A command that reads its environment only when it runs: its help works in every environment."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        if self.help is not None:
            # A raw docstring has two characters where click expects the one that keeps lines unchanged.
            self.help = self.help.replace("\\b\n", "\b\n")

    def invoke(self, ctx: click.Context) -> object:
        """Prepare the process, then run the command. With `--json` nothing else goes to stdout."""
        self.prepare()
        with rendering.only_json() if ctx.params.get("as_json") else nullcontext():
            return super().invoke(ctx)

    def prepare(self) -> None:
        """Prepare the process for the command."""
        environment.prepare()


class Commands(click.Group):
    """A group that lists its commands in the order in which they were added. Errors are printed as one sentence."""

    command_class = Command

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order in which a newcomer needs them."""
        return list(self.commands)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with its first sentence.

        Click would cut off sentences that are longer than a line.
        """
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(_WHOLE)) for name, each in self.commands.items()])

    def main(self, *arguments: Any, **attributes: Any) -> Any:
        """Run the command line.

        A character that the terminal cannot show, such as an arrow, becomes a question mark.
        """
        if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="replace")
        return super().main(*arguments, **attributes)

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; an error that its user can understand ends it with exit code 1."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            sentence = failures.sentence(error)
            if sentence is None:
                raise
        click.echo(f"Error: {sentence}", err=True)
        raise click.exceptions.Exit(1)
