"""Rules about the sources as text: who may import whom, what mypyc miscompiles, docstrings, lengths, banned words.

Every rule is tried on bad and good snippets first, so that none of them can pass by checking nothing.
"""

from __future__ import annotations

import graphlib
import textwrap
from collections.abc import Callable, Iterable

import pytest

from tests import structure

Rule = Callable[[str, str], list[str]]


def check(rule: Rule, files: Iterable[tuple[str, str]]) -> None:
    """Apply a rule to files; fail with its messages, and also if there is no file."""
    sources = list(files)
    assert sources, "no file to check"
    found = [message for name, text in sources for message in rule(name, text)]
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def compiled_sources() -> list[tuple[str, str]]:
    """The compiled modules that ``setup.py`` lists."""
    names = structure.compiled_files((structure.ROOT / "setup.py").read_text())
    return [(name, (structure.ROOT / name).read_text()) for name in names]


def test_imports_go_in_one_direction() -> None:
    """Every part, and every room of one, imports only what LAYERS and ROOMS allow."""
    check(structure.wrong_direction, structure.package_files())


def test_layers_have_no_cycle() -> None:
    """LAYERS and ROOMS themselves are orders, and only ``python -m`` is above the command line."""
    for order in (structure.LAYERS, *structure.ROOMS.values()):
        graphlib.TopologicalSorter(order).prepare()
    assert [layer for layer, below in structure.LAYERS.items() if "cli" in below] == ["__main__"]


def test_code_that_is_loaded_twice_imports_relatively() -> None:
    """An uncompiled copy of the machine and the MMU gets the uncompiled rest of them."""
    check(structure.absolute_imports, structure.package_files())


def test_compiled_code_shifts_no_constant() -> None:
    """No compiled module holds the shift that mypyc silently miscompiles."""
    check(structure.bad_shifts, compiled_sources())


def test_what_is_public_is_documented() -> None:
    """Every public module, class, function and method says in one line what it is."""
    check(structure.missing_docstrings, structure.package_files())


def test_files_fit_one_sitting() -> None:
    """No source file of the package grows past the limit."""
    check(structure.too_long, structure.package_files())


def test_lines_fit_a_window() -> None:
    """No line of Python or shell is longer than the limit."""
    files = [(name, text) for name, text in structure.repository_files() if name.endswith((".py", ".sh", ".toml"))]
    check(structure.long_lines, files)


def test_no_file_holds_a_banned_word() -> None:
    """No file names a machine's folders or a package registry, or leaves work behind."""
    check(structure.banned_words, structure.repository_files())


def test_every_folder_is_a_package() -> None:
    """Every folder with sources has ``__init__.py``, so that mypy and mypyc name its modules rightly."""
    names = {name for name, _ in structure.package_files()}
    assert names
    assert structure.missing_init(names) == []


def test_the_repository_walk_sees_the_repository() -> None:
    """The files that the rules read include the sources, the tests and the scripts, and nothing that was built."""
    names = {name for name, _ in structure.repository_files()}
    assert {"setup.py", "src/shootdown/build_info.py", "tests/structure.py", "tests/run.sh", ".ci/run"} <= names
    assert not [name for name in names if name.startswith((".git/", "build/", ".venv"))]


def test_the_list_of_compiled_modules_is_read() -> None:
    """The modules come from ``setup.py``, and ``build_info``, which speaks for all of them, is among them."""
    assert "src/shootdown/build_info.py" in [name for name, _ in compiled_sources()]
    assert structure.compiled_files('A = 1\nCOMPILED = ["x.py", "y.py"]\n') == ["x.py", "y.py"]
    with pytest.raises(ValueError, match="COMPILED"):
        structure.compiled_files("A = 1\n")


MMU = "src/shootdown/mmu/zap.py"
TRACE = "src/shootdown/trace/rebuild.py"


@pytest.mark.parametrize(
    ("name", "snippet", "message"),
    [
        (MMU, "from shootdown.trace import events", "mmu must not import shootdown.trace.events"),
        (MMU, "from ..trace.events import Events", "mmu must not import shootdown.trace.events.Events"),
        (MMU, "from .. import trace", "mmu must not import shootdown.trace"),
        (MMU, "import shootdown.cost.model", "mmu must not import shootdown.cost.model"),
        (MMU, "from shootdown import check", "mmu must not import shootdown.check"),
        (MMU, "def f():\n    from ..cli import main", ":2: mmu must not import shootdown.cli.main"),
        (MMU, "import importlib\nimportlib.import_module('shootdown.cli.main')", ":2: mmu must not import"),
        (TRACE, "from shootdown.cost.model import price", "trace must not import shootdown.cost.model.price"),
        (TRACE, "from ..cli.main import main", "trace must not import shootdown.cli"),
        ("src/shootdown/cost/model.py", "from ..cli import main", "cost must not import shootdown.cli.main"),
        ("src/shootdown/cost/__init__.py", "from ..cli import main", "cost must not import shootdown.cli.main"),
        ("src/shootdown/cost/__init__.py", "from .. import check", "cost must not import shootdown.check"),
        ("src/shootdown/machine/native.py", "from ..mmu import spte", "machine must not import shootdown.mmu.spte"),
        ("src/shootdown/__init__.py", "from .mmu import spte", "shootdown must not import shootdown.mmu.spte"),
        ("src/shootdown/__init__.py", "from . import mmu", "shootdown must not import shootdown.mmu"),
        ("src/shootdown/errors.py", "from shootdown import build_info", "errors must not import shootdown.build_info"),
        (
            "src/shootdown/kernel/source/tree.py",
            "from ..library.build import build",
            "kernel.source must not import shootdown.kernel.library.build.build",
        ),
        ("src/shootdown/newcomer/x.py", "", "'newcomer' is not in LAYERS"),
    ],
)
def test_wrong_imports_are_found(name: str, snippet: str, message: str) -> None:
    """The import rule sees every way to write an import, wherever it stands."""
    assert message in "\n".join(structure.wrong_direction(name, snippet))


@pytest.mark.parametrize(
    ("name", "snippet"),
    [
        (MMU, "from ..machine.native import NativeMachine\nfrom ..errors import InputError\nfrom . import spte"),
        (MMU, "import numpy as np\nimport shootdownlike.cli\nfrom cli import shootdown"),
        (TRACE, "from shootdown.mmu import spte\nfrom shootdown.trace.events import Events\nfrom .events import Trace"),
        (TRACE, "from shootdown import __version__\nimport shootdown"),
        ("src/shootdown/__main__.py", "from shootdown.cli.main import main"),
        ("src/shootdown/cli/main.py", "from shootdown import build_info\nfrom ..cost.model import price"),
    ],
)
def test_right_imports_are_left_alone(name: str, snippet: str) -> None:
    """The import rule has no false alarm on what the layers allow."""
    assert structure.wrong_direction(name, snippet) == []


def test_absolute_imports_are_found() -> None:
    """The rule on relative imports sees absolute ones, in the two parts that it concerns."""
    for snippet in ("from shootdown.errors import InputError", "import shootdown.mmu", "from shootdown import mmu"):
        assert "relatively" in "\n".join(structure.absolute_imports(MMU, snippet))
        assert "relatively" in "\n".join(structure.absolute_imports("src/shootdown/machine/native.py", snippet))
        assert structure.absolute_imports(TRACE, snippet) == []
    assert structure.absolute_imports(MMU, "import numpy\nfrom ..errors import InputError\nfrom . import spte") == []


@pytest.mark.parametrize(
    "snippet",
    [
        "def f(n): return 1 << n",
        "def f(n): return -1 << n",
        "def f(n): return ~0 << n",
        "def f(n): return i64(1) << n",
        "def f(n): return 1 >> n",
        "def f(n): return (1 << 40) << n",
        "def f(n): return x & ~((1 << ((n - 1) * 9)) - 1)",
        "ONE: Final = 1\ndef f(n): return ONE << n",
        "one = 1\ndef f(n): return one << n",
        "from .spte import PRESENT\ndef f(n): return PRESENT << n",
        "def f(n): return spte.PRESENT << n",
        "def f(n):\n    one = 1\n    return one << n",
        "def f(n):\n    one: i64 = 1\n    two = one + 1\n    return two << n",
        "def f(n):\n    one = 1\n    while n > 9:\n        n -= 1\n        one = 2\n    return one << n",
        "def f(n, big): return (1 if big else n) << n",
        "class A:\n    def f(self): return 1 << self.n",
        "def f(n):\n    def g(k): return 1 << k\n    return g(n)",
        "def f(n): return [1 << k for k in range(n)]",
        "for n in range(9): print(1 << n)",
        "class A:\n    x = 1 << n",
    ],
)
def test_miscompiled_shifts_are_found(snippet: str) -> None:
    """The shift rule sees a constant behind every disguise that mypyc folds."""
    assert "constant shifted" in "\n".join(structure.bad_shifts("x.py", snippet))


@pytest.mark.parametrize(
    "snippet",
    [
        "BIT: Final = 1 << 40\nMASK = (1 << 40) - 1 << BIT",
        "SHIFT = 9\nx = 1 << SHIFT",
        "def f(x, n): return x >> n << n",
        "def f(n): return (1 << 62) >> (62 - n)",
        "def shl(one, n): return one << n",
        "one = 1\ndef f(one, n): return one << n",
        "def f(n):\n    one = 1\n    one <<= n\n    return one << n",
        "def f(xs, n):\n    for one in xs:\n        print(one << n)",
        "def f(xs, n):\n    one, two = xs\n    return one << n",
        "class A:\n    def f(self, n): return self.one << n",
    ],
)
def test_other_shifts_are_left_alone(snippet: str) -> None:
    """The shift rule has no false alarm on shifts that mypyc compiles right."""
    assert structure.bad_shifts("x.py", snippet) == []


@pytest.mark.parametrize(
    ("snippet", "message"),
    [
        ("x = 1", ":1: module has no docstring"),
        ('"""Module."""\nclass A:\n    pass', ":2: A has no docstring"),
        ('"""Module."""\ndef f():\n    pass', ":2: f has no docstring"),
        ('"""Module."""\nclass A:\n    """A."""\n    def f(self):\n        pass', ":4: f has no docstring"),
        ('"""Module."""\nasync def f():\n    """ """', ":2: f has no docstring"),
        ('"""Module\ngoes on."""', "must begin with one line"),
        ('"""\nModule.\n"""', "must begin with one line"),
    ],
)
def test_missing_docstrings_are_found(snippet: str, message: str) -> None:
    """The docstring rule sees modules, classes, functions and methods, and summaries of two lines."""
    assert message in "\n".join(structure.missing_docstrings("src/shootdown/x.py", snippet))


def test_private_names_need_no_docstring() -> None:
    """The docstring rule asks nothing of private, nested, special and overriding functions."""
    snippet = textwrap.dedent('''
        """Module.

        More.
        """
        def _f():
            pass
        def f():
            """Do."""
            def g():
                pass
        class A:
            """A."""
            def __init__(self):
                pass
            @override
            def f(self):
                pass
            @x.setter
            def x(self, value):
                pass
    ''').lstrip()
    assert structure.missing_docstrings("src/shootdown/x.py", snippet) == []
    assert structure.missing_docstrings("src/shootdown/_x.py", "def f(): pass") == []


def test_long_files_are_found() -> None:
    """The limit on files is exact."""
    assert structure.too_long("x.py", "\n" * structure.FILE_LINES_MAX) == []
    assert "451 lines" in structure.too_long("x.py", "\n" * 451)[0]


def test_long_lines_are_found() -> None:
    """The limit on lines is exact, and the message names the line."""
    assert structure.long_lines("x.py", "a" * 120) == []
    assert structure.long_lines("x.py", "a\n" + "a" * 121) == ["x.py:2: 121 characters, at most 120"]


@pytest.mark.parametrize(
    "words",
    [
        ("", "work", "x"),
        ("open(", "root", ".cache"),
        ("file:/", "farm", ""),
        ("https:/", "pyp" + "i.org", "simple"),
        ("https:/", "files.python" + "hosted.org", "x"),
        ("https:/", "registry.npm" + "js.org", "x"),
        ("# TO" + "DO: more", "", ""),
        ("# FIX" + "ME", "", ""),
        ("x  # XX" + "X", "", ""),
    ],
)
def test_banned_words_are_found(words: tuple[str, ...]) -> None:
    """The rule on words sees each kind, and names the line."""
    assert "x.md:2: " in "\n".join(structure.banned_words("x.md", "first line\n" + "/".join(words)))


def test_innocent_words_are_left_alone() -> None:
    """The rule on words has no false alarm on roots of page tables or relative folders."""
    text = "mmu/root/x network/work/x todo roots XXXX a//b /proc/x /workers/ mktemp -t x.XXXXXX"
    assert structure.banned_words("x.md", text) == []


def test_missing_init_files_are_found() -> None:
    """The rule on folders sees one without ``__init__.py``."""
    names = {"src/shootdown/__init__.py", "src/shootdown/mmu/spte.py"}
    assert "src/shootdown/mmu/__init__.py:1: missing" in structure.missing_init(names)[0]
    assert structure.missing_init({*names, "src/shootdown/mmu/__init__.py"}) == []
