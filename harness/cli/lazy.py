"""A group of commands that are imported only when called, so that help answers at once."""

from collections.abc import Mapping
from importlib import import_module

import click

Commands = Mapping[str, tuple[str, str]]
"""Command -> ("module:object", line of help)."""


class LazyGroup(click.Group):
    """A click group of `lazy_commands`, shown in their order."""

    def __init__(self, *args, lazy_commands: Commands, **options) -> None:
        super().__init__(*args, **options)
        self._lazy = lazy_commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self._lazy:
            return None
        module, _, attribute = self._lazy[name][0].partition(":")
        return getattr(import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._lazy.items()])
