"""The program ``shootdown``: its commands, and how every error becomes one line and an exit code."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from types import FrameType

import click

from .. import __version__
from ..build_info import compiled, describe
from ..errors import InputError, reason
from . import check, check_tree, compare, doctor, kernel, kernel_diff, record, replay, show

INTERRUPTED, CLOSED_PIPE = 130, 128 + signal.SIGPIPE


class ClosedPipe(Exception):  # noqa: N818 - nothing is wrong
    """Nobody reads the output any more."""


class Commands(click.Group):
    """All commands. A closed pipe is kept from click, which would end with the code of bad input."""

    def parse_args(self, context: click.Context, words: list[str]) -> list[str]:
        """Read the arguments, of which --help and --version print."""
        try:
            return super().parse_args(context, words)
        except BrokenPipeError:
            raise ClosedPipe from None

    def invoke(self, context: click.Context) -> object:
        """Run the command that the arguments name."""
        try:
            return super().invoke(context)
        except BrokenPipeError:
            raise ClosedPipe from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, message=f"shootdown {__version__}, {describe()}")
def cli() -> None:
    """KVM's remote TLB flushes: which are needed, and what they cost.

    \b
    Exit codes: 0 fine or holds, 1 bad input or usage, 2 refuted,
    3 undetermined or not exercised, 130 interrupted.
    """


for command in (
    check.command, compare.command, show.command, replay.command, record.command, kernel.command, doctor.command,
):  # fmt: skip
    cli.add_command(command)
for command in (kernel_diff.diff_command, kernel_diff.bench_command):
    kernel.command.add_command(command)


def _terminate(number: int, frame: FrameType | None) -> None:
    """End as the signal asks, but clean up before: workers and temporary files go."""
    raise SystemExit(128 + number)


def main() -> int:
    """Run the command that the arguments name; the exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Closed by the shell: nobody is there, which is no error.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # Names of files need not be text.
        sys.stdout.reconfigure(errors="backslashreplace")
    if not compiled() and sys.stderr.isatty():
        print(f"shootdown: {describe()}", file=sys.stderr)
    try:
        if any(word == "" or re.fullmatch("--[a-z-]+=", word) for word in sys.argv[1:]):
            raise InputError("an argument is empty", advice="is a variable of the shell not set?")
        result = cli.main(standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except InputError as error:
        print(f"shootdown: {error}", file=sys.stderr)
    except click.ClickException as error:
        error.show()
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except (BrokenPipeError, ClosedPipe):
        # The reader has seen enough; what Python would still flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        print(f"shootdown: cannot write: {reason(error)}", file=sys.stderr)
    except MemoryError:
        print("shootdown: out of memory; give fewer or smaller files", file=sys.stderr)
    return check_tree.bad_input(sys.argv[1:])
