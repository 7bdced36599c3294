#!/usr/bin/env bash
# The eight points of the installation on this host (or below DESTDIR, or on --host USER@HOST); kept beside its docs.
# Further arguments go to `p33 proof`. Exit code 0: all points hold.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"

if [ "${1:-}" = --host ]; then
  host=${2:?--host needs USER@HOST}
  shift 2
  command=$(printf '%q ' "DESTDIR=$DESTDIR" bash "$BASE/current/deployment/proof.sh" "$@")
  # shellcheck disable=SC2016 # $(id -u) is the remote user's
  exec ssh "$host" 'if [ "$(id -u)" = 0 ]; then env '"$command"'; else sudo env '"$command"'; fi'
fi

[ -x "$BIN/p33" ] || fail "nothing is installed here: $BIN/p33 is missing"
case " $* " in
  *' --scenarios '*|*' --canary '*) P33_ROOT=$DESTDIR exec "$BIN/p33" proof "$@" ;;
esac
code=0
P33_ROOT=$DESTDIR "$BIN/p33" proof --keep "$KEPT" "$@" || code=$?
text=${KEPT%.json}.txt
if [ -e "$text" ] && [ -d "$BASE/current/docs" ]; then
  cp "$text" "$BASE/current/docs/P3_3_VPS_PROOF.txt"
  say "kept: $BASE/current/docs/P3_3_VPS_PROOF.txt" >&2
fi
exit "$code"
