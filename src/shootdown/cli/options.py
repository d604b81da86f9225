"""Options that several commands have, in the same words."""

from __future__ import annotations

import click

from ..mmu.spte import EPT, NPT

FORMATS = {"npt": NPT, "ept": EPT}
FORMAT = click.option(
    "--format", "fmt", type=click.Choice(sorted(FORMATS)), help="SPTE format; told from the values if not given."
)
JSON = click.option("--json", "as_json", is_flag=True, help="JSON (docs/json.md).")
