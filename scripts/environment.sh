# Sourced by the other scripts: changes to the checkout and activates .venv, which is created with the tested versions
# when it is missing or they have changed. PYTHON=... chooses the interpreter; a .venv of another version is replaced.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stop() {
    echo "$1" >&2
    exit 1
}

is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_supported "$PYTHON" || stop "PYTHON=$PYTHON is not Python 3.11 to 3.13; name another, or leave it out"
        echo "$PYTHON"
        return
    fi
    for candidate in python3.11 python3.12 python3.13 python3; do
        if is_supported "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    stop "no Python 3.11 to 3.13 found; install python3.11 or set PYTHON=/path/to/python"
}

# Whether .venv has the version that PYTHON asks for.
has_requested_python() {
    [ -z "${PYTHON:-}" ] || [ "$("$PYTHON" --version)" = "$(.venv/bin/python --version)" ]
}

wanted=$(cat pyproject.toml scripts/constraints.txt | sha256sum)
if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ] || ! has_requested_python; then
    python=$(find_python)
    echo "creating .venv with $("$python" --version); the first time this downloads torch and takes minutes"
    clear=()
    has_requested_python 2>/dev/null || clear=(--clear)
    "$python" -m venv "${clear[@]}" .venv || stop "python has no venv module; on Debian or Ubuntu: apt-get install python3-venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint scripts/constraints.txt --editable ".[dev]"
    .venv/bin/python -c 'import cv2' ||
        stop "OpenCV needs system libraries; on Debian or Ubuntu: apt-get install libgl1 libglib2.0-0"
    echo "$wanted" >.venv/installed
fi
# On a busy machine, waiting threads that spin for long starve each other.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-10000}
PATH="$PWD/.venv/bin:$PATH"
