#!/usr/bin/env bash
# Runs a whole study on a small world with a known answer. Arguments go to `seg-transfer demo`.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec seg-transfer demo "$@"
