#!/usr/bin/env bash
# The name that operators know: proof.sh.
exec "$(dirname "${BASH_SOURCE[0]}")/proof.sh" "$@"
