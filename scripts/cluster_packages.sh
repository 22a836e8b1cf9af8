#!/usr/bin/env bash
# Installs what tests/end_to_end/test_slurm.py needs, from Debian or Ubuntu. Only for a machine that is there for the
# tests: test.sh does not call it, and the test is skipped where Slurm is absent.
set -euo pipefail
missing=
for command in slurmctld slurmd sbatch munged; do
    command -v "$command" >/dev/null || missing=yes
done
if [ -z "$missing" ]; then
    exit
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "Slurm is not installed, for that takes root and apt-get; its test is skipped" >&2
    exit
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
