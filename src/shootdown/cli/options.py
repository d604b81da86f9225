"""Options that several commands have, in the same words."""

from __future__ import annotations

import shlex

import click
from click.core import ParameterSource

from ..mmu.spte import EPT, NPT

FORMATS = {"npt": NPT, "ept": EPT}
FORMAT = click.option(
    "--format", "fmt", type=click.Choice(sorted(FORMATS)), help="SPTE format; told by the recording if not given."
)
JSON = click.option("--json", "as_json", is_flag=True, help="JSON (docs/json.md).")


def given(*names: str) -> str:
    """Options of the command that runs, by name, as its user gave them: to be given again."""
    context = click.get_current_context()
    options = {option.name: option for option in context.command.params if isinstance(option, click.Option)}
    words: list[str] = []
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option, value = options[name], context.params[name]
            for each in value if option.multiple else [value]:
                words += option.opts[:1] if option.is_flag else [option.opts[0], str(each)]
    return shlex.join(words)
