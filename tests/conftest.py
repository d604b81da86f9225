"""Says which build of the package is under test, and refuses to test another one than was asked for."""

import gc
import os
from pathlib import Path

import pytest

import shootdown
from shootdown import build_info


def pytest_configure(config: pytest.Config) -> None:
    """Compare with SHOOTDOWN_EXPECT, which is ``plain``, ``compiled`` or unset."""
    expected = os.environ.get("SHOOTDOWN_EXPECT", "")
    if expected not in ("", "plain", "compiled"):
        raise pytest.UsageError(f"SHOOTDOWN_EXPECT={expected}: use 'plain', 'compiled', or leave it unset")
    found = "compiled" if build_info.compiled() else "plain"
    if expected and expected != found:
        raise pytest.UsageError(f"SHOOTDOWN_EXPECT={expected}, but {build_info.__file__} is {found}")
    # The slow explorers make states by the million, which are tuples and in no cycle: to look at them all again and
    # again takes a third of their time.
    gc.set_threshold(100_000, 10, 10)


def pytest_report_header(config: pytest.Config) -> str:
    """One line at the top of every report."""
    return f"shootdown {shootdown.__version__}, {build_info.describe()}, {Path(shootdown.__file__).parent}"
