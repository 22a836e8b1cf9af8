#!/usr/bin/env bash
# Installs the wheel in new environments and runs it there from an empty folder: without mmsegmentation (plain), with the
# extra that installs it (mmseg), and beside a fork of it (onedl), which must stay unchanged. Each takes some minutes and
# downloads packages. Arguments choose among the three; without any, all run. PYTHON=... chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
checkout=$PWD
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python=${PYTHON:-python3.11}
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" .
wheel=$(echo "$folder"/seg_transfer-*.whl)
versions=$checkout/scripts/constraints.txt

# Installs packages in the tested versions into the environment of this test.
install() {
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$versions" "$@"
}

installed() {
    "$environment/bin/python" -m pip freeze | grep -i "mmcv\|mmengine\|mmseg\|opencv" || true
}

check() {
    (cd "$folder" && "$environment/bin/python" -P "$checkout/scripts/check_install.py" "$1")
    "$environment/bin/python" -m pip check
}

try_plain() {
    install "$wheel"
    [ -z "$(installed)" ] || { echo "these packages were installed without being requested: $(installed)"; return 1; }
    check plain
}

try_mmseg() {
    install "$wheel[mmseg]"
    check mmseg
}

try_onedl() {
    install torch "onedl-mmsegmentation[mminstall]"
    before=$(installed)
    install "$wheel"
    [ "$before" = "$(installed)" ] || { diff <(echo "$before") <(installed); return 1; }
    check mmseg
}

[ $# -gt 0 ] || set -- plain mmseg onedl
for name; do
    echo "== $name"
    environment=$folder/$name
    "$python" -m venv "$environment"
    "try_$name"
    rm -rf "$environment"
done
