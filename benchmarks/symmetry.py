"""What could be saved by taking states that differ only in who is who among equal vCPUs for one.

    python -m benchmarks.symmetry

prints the tests in which vCPUs are equal, their states under the first policy, and how few renamings can leave: half of
them for two equal vCPUs, a sixth for three.
"""

from __future__ import annotations

from math import factorial
from typing import Any

from shootdown.check.litmus.build import build
from shootdown.check.litmus.cases import Case, pairs
from shootdown.check.litmus.litmus import suite
from shootdown.check.program.setting import Setting
from shootdown.check.search.model import Model
from shootdown.check.search.search import search
from shootdown.check.source.source import Source

NUMBER = 2
"""The operand of a vCPU's program that is its number."""


def renamings(setting: Setting) -> int:
    """How many renamings of vCPUs leave a setting as it is."""
    alike: dict[Any, int] = {}
    for n, program in enumerate(setting.programs[: setting.vcpus]):
        operands = tuple(each for k, each in enumerate(program.operands) if k != NUMBER)
        own = len(program.operands) <= NUMBER or program.operands[NUMBER] != n or setting.ring_entries > 0
        key = (n,) if own else (program.run, *(each if isinstance(each, int) else id(each) for each in operands),
                                program.again, program.faults)  # fmt: skip
        alike[key] = alike.get(key, 0) + 1
    found = 1
    for number in alike.values():
        found *= factorial(number)
    return found


def main() -> None:
    """Print them."""
    source, tests, equal = Source(), 0, 0
    for test in suite():
        tests += 1
        policy, behaviour = pairs(test)[0]
        count = renamings(build(Case(test, policy, behaviour, test.full), source))
        if count > 1:
            equal += 1
            result = search(Model(build(Case(test, policy, behaviour, test.full), source)))
            figures = f"{result.states:9,} states, at least {-(-result.states // count):9,}, in {result.seconds:.2f} s"
            print(f"{test.name:18} {policy:8} {behaviour:5} {figures}")
    source.close()
    print(f"{equal} of {tests} tests have equal vCPUs")


if __name__ == "__main__":
    main()
