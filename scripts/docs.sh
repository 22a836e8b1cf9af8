#!/usr/bin/env bash
# Builds the API reference into a folder, build/docs by default; a warning or a broken reference is an error.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec python scripts/build_docs.py "${1:-build/docs}"
