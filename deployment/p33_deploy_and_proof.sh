#!/usr/bin/env bash
# The name that operators know: deploy.sh, which ends with the proof.
exec "$(dirname "${BASH_SOURCE[0]}")/deploy.sh" "$@"
