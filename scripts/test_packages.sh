#!/usr/bin/env bash
# Installs what test_slurm.py and test_*_browser.py in tests/end_to_end need, from Debian or Ubuntu. Meant for
# machines that only run tests: test.sh does not call it, and a test is skipped if its programs are missing.
set -euo pipefail

lacks() {
    for command in "$@"; do
        command -v "$command" >/dev/null || return 0
    done
    return 1
}

install() {
    what=$1
    shift
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "$what is not installed, because that needs root and apt-get; its test is skipped" >&2
        return
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq install --no-install-recommends "$@" >/dev/null
}

if lacks slurmctld slurmd sbatch munged; then
    install Slurm slurmctld slurmd slurm-client munge
fi
# Ubuntu has Chromium as a snap only.
if lacks chromium chromedriver; then
    install Chromium chromium chromium-driver || echo "Chromium cannot be installed; its test is skipped" >&2
fi
