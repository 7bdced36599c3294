#!/usr/bin/env bash
# Takes the last deployment back, and says which way: to the previous release, or to Governor-only mode.
set -euo pipefail

usage() {
  cat <<'END'
usage: deployment/rollback.sh [--previous | --governor | --both] [--host USER@HOST] [--dry-run]
  --previous   the release before this one (the default where there is one)
  --governor   APPLY_GATE=governor: orders go out on the Governor's permit alone; refused by the main exchange
  --both       back from Governor-only mode: both permits are needed again
END
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
WAY='' HOST='' DRY=no PASSED=()
while [ $# -gt 0 ]; do
  case $1 in
    --previous|--governor|--both) WAY=${1#--}; PASSED+=("$1") ;;
    --host) HOST=${2:?--host needs USER@HOST}; shift ;;
    --dry-run) DRY=yes; PASSED+=("$1") ;;
    -h|--help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"

if [ -n "$HOST" ]; then
  command=$(printf '%q ' "DESTDIR=$DESTDIR" bash "$BASE/current/deployment/rollback.sh" "${PASSED[@]}")
  # shellcheck disable=SC2016 # $(id -u) is the remote user's
  exec ssh "$HOST" 'if [ "$(id -u)" = 0 ]; then env '"$command"'; else sudo env '"$command"'; fi'
fi

# Sets APPLY_GATE in the settings file and touches no other line of it. systemd reads indented lines too, and the last wins.
set_gate() {
  local fresh=$ENV_FILE.new line='^[[:blank:]]*APPLY_GATE[[:blank:]]*='
  [ -f "$ENV_FILE" ] || fail "$ENV_FILE is missing"
  if [ "$DRY" = yes ]; then say "would: APPLY_GATE=$1 in $ENV_FILE"; return; fi
  cp -p "$ENV_FILE" "$fresh"
  if grep -q "$line" "$ENV_FILE"; then
    sed "s/$line.*/APPLY_GATE=$1/" "$ENV_FILE" > "$fresh"
  else
    # An editor may have left the last line without its end: what is added would become part of that setting.
    if [ -n "$(tail -c 1 "$fresh")" ]; then echo >> "$fresh"; fi
    printf 'APPLY_GATE=%s\n' "$1" >> "$fresh"
  fi
  mv "$fresh" "$ENV_FILE"
}

current=$(release_of current) previous=$(release_of previous)
[ -n "$current" ] || fail "nothing is installed in $BASE"
if [ -z "$WAY" ]; then
  WAY=governor
  if [ -n "$previous" ]; then WAY=previous; fi
fi
case $WAY in
  previous)
    [ -n "$previous" ] || fail "there is no previous release; --governor takes the gate out"
    [ -e "$BASE/releases/$previous/.complete" ] || fail "release $previous is not complete"
    # The current one first: cut off in between, by a lost connection or a full disk, it is run again and goes on here.
    if [ "$previous" = "$current" ]; then
      say "release $current is the current one already: the last switch was cut off"
    else
      point current "$previous"
      point previous "$current"
      say "rolled back: release $previous instead of $current"
    fi ;;
  governor)
    set_gate governor
    say "rolled back: Governor-only mode (APPLY_GATE=governor). Nothing checks positions now; rollback.sh --both ends it" ;;
  both)
    set_gate both
    say "both permits are needed again (APPLY_GATE=both)" ;;
esac
restart_services
