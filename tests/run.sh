#!/bin/sh
# Everything that must pass before a change lands: style, types, the tests on the plain sources, then the whole suite
# on the compiled package. Needs Python 3.11 or newer with venv, a C compiler and Python's headers.
#   SHOOTDOWN_VENV   where the virtual environment goes, made if missing (default .venv-test)
#   PYTHON           the interpreter that makes it (default python3)
set -eu
cd "$(dirname "$0")/.."
unset PYTHONPATH SHOOTDOWN_EXPECT
venv=${SHOOTDOWN_VENV:-.venv-test}
python=${PYTHON:-python3}
bin=$venv/bin

step() {
    printf '\n== %s\n' "$*"
}

step "environment: $venv"
if [ ! -x "$bin/python" ]; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "tests/run.sh: $python is too old or missing; set PYTHON to a Python of at least 3.11" >&2
        exit 1
    }
    "$python" -m venv "$venv"
fi
"$bin/python" --version
"$bin/python" -m pip install --quiet --upgrade pip
rm -rf build # a module deleted from src would be installed from there
SHOOTDOWN_COMPILE=require "$bin/python" -m pip install --quiet '.[dev]'

if ! command -v trace-cmd >/dev/null 2>&1 && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    step "trace-cmd"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends trace-cmd; } </dev/null || true
fi
command -v trace-cmd >/dev/null 2>&1 || echo "trace-cmd is missing: the tests that compare with it will be skipped"

if command -v apt-get >/dev/null 2>&1; then
    step "Debian's kernel sources"
    for version in 6.1 6.12; do
        { "$bin/shootdown" kernel build --debian "$version" </dev/null ||
            echo "no linux-source-$version: the tests of its C will be skipped"; } &
    done
    wait
fi

step "style"
"$bin/ruff" check .
"$bin/ruff" format --check .

step "types"
"$bin/mypy"

step "tests that are not slow, on the plain sources in src"
SHOOTDOWN_EXPECT=plain PYTHONPATH="$PWD/src" "$bin/python" -m pytest -n auto --dist worksteal -m "not slow"

step "all tests, on the compiled package"
SHOOTDOWN_EXPECT=compiled "$bin/python" -m pytest -n auto --dist worksteal
