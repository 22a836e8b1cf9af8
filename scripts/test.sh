#!/usr/bin/env bash
# Runs every check: style, types, tests with warnings as errors, doctests. Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ruff check .
ruff format --check .
mypy
exec pytest "$@"
