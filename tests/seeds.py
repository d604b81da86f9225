"""Which litmus tests refute which of the diffs in examples/seed: a list in its README, a table in docs/checking.md.

    python -m tests.seeds

runs all of them (a minute, compiled) and writes both anew.
"""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any

from tests.structure import ROOT
from tests.test_cli import run

SEED = ROOT / "examples" / "seed"
GUIDE = ROOT / "docs" / "checking.md"
OPTIONS = {"eager": ["--policy", "eager", "--behaviour", "5.17"], "rcu": ["--policy", "rcu"]}
ROW = re.compile(r"^\| `([\w-]+)` ((?:\|[ R]+){11})\|\n", re.M)


def items() -> list[str]:
    """The list's items, each whole."""
    before = (SEED / "README.md").read_text().partition("\nEach")[0]
    return re.split(r"^(?=\* \[)", before, flags=re.M)[1:]


def rows() -> dict[str, tuple[str, list[str]]]:
    """Of the list: policy and refuted tests by file, in its order."""
    found = {}
    for item in items():
        match = re.match(r"\* \[(\S+\.diff)\]\(\1\) \(`(\w+)`\)", item)
        assert match and ("**Holds.**" in item) != ("**Refuted** by" in item), item
        found[match[1]] = (match[2], re.findall(r"`([\w-]+)`", item.partition("**Refuted** by")[2]))
    return found


def table() -> dict[str, str]:
    """Of the table: by test, its cells."""
    return dict(ROW.findall(GUIDE.read_text()))


def checked(name: str) -> dict[str, Any]:
    """What ``check --json`` says of a diff of the list."""
    done = run("check", *OPTIONS[rows()[name][0]], "--patch", str(SEED / name), "--json")
    found: dict[str, Any] = {"exit": done.returncode, **json.loads(done.stdout)}
    return found


def refuted(found: dict[str, Any]) -> list[str]:
    """The tests that a diff refutes."""
    return [test["name"] for test in found["tests"] if test["verdict"] == "refuted" and test["expected"] == "holds"]


def write() -> None:
    """Write the list and the table anew."""
    verdicts = {name: refuted(checked(name)) for name in rows()}
    readme = (SEED / "README.md").read_text()
    for item, (name, tests) in zip(items(), verdicts.items(), strict=True):
        said = re.split(r"\*\*(?:Holds|Refuted)", item)[0]
        said += f"**Refuted** by {', '.join(f'`{test}`' for test in tests)}." if tests else "**Holds.**"
        lines = textwrap.wrap(" ".join(said.split()), 118, subsequent_indent="  ", break_on_hyphens=False)
        readme = readme.replace(item, "\n".join(lines) + "\n", 1)
        assert f"[{name}]" in item
    (SEED / "README.md").write_text(readme)
    guide = GUIDE.read_text()
    first = ROW.search(guide)
    assert first
    some = sorted({test for tests in verdicts.values() for test in tests})
    cells = {test: "".join(f"| {'R' if test in tests else ' '} " for tests in verdicts.values()) for test in some}
    body = "".join(f"| `{test}` {cells[test]}|\n" for test in some)
    GUIDE.write_text(guide[: first.start()] + body + ROW.sub("", guide[first.start() :]))


if __name__ == "__main__":
    write()
