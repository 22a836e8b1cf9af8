#!/usr/bin/env bash
# Runs every check: style, types, tests with warnings as errors, doctests. Without arguments, two processes share the
# tests file by file, with one thread each; arguments go to pytest, which then runs in one process.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ruff check .
ruff format --check .
mypy
[ "$#" -gt 0 ] || {
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    # In the order of the folders: the dear tests of tests/end_to_end come early, so that both processes end together.
    set -- --numprocesses 2 --dist loadfile --no-loadscope-reorder
}
exec pytest "$@"
