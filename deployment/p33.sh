#!/bin/sh
# p33 with the installation's settings and the operator's credentials (files called like their setting).
# P33_ROOT: the installation lies below this folder.
root=${P33_ROOT:-}
for file in "$root"/etc/quantum/credentials/operator/*; do
  [ -f "$file" ] && export "$(basename "$file")_FILE=$file"
done
# The archive of the pipeline's units; the settings file wins.
export P33_HISTORY_URL="${P33_HISTORY_URL:-$root/var/lib/quantum-p33-pipeline/history}"
exec "$root/opt/quantum/p33/current/venv/bin/p33" --env-file "-$root/etc/quantum/position-state-brain.env" "$@"
