# shellcheck shell=bash disable=SC2034
# Shared by the scripts beside it: where an installation lies, and how a step is said, done, or only said (--dry-run).
# DESTDIR puts everything under a folder; nothing of systemd is touched then.

: "${DESTDIR:=}"
BASE=$DESTDIR/opt/quantum/p33
ETC=$DESTDIR/etc/quantum
ENV_FILE=$ETC/position-state-brain.env
CREDENTIALS=$ETC/credentials
UNITS=$DESTDIR/etc/systemd/system
BIN=$DESTDIR/usr/local/bin
KEPT=$DESTDIR/var/lib/quantum/p33/proof.json
SIDECAR=quantum-position-state-brain.service
APPLY=quantum-apply-layer.service
CANARY=quantum-p33-canary.timer
DAEMON=quantum-p33-dagster-daemon.service
WEB=quantum-p33-dagster-webserver.service
DRY=${DRY:-no}

say() { printf '%s\n' "$*"; }
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Does the command, or says what it would be.
run() {
  if [ "$DRY" = yes ]; then
    printf 'would:'; printf ' %q' "$@"; printf '\n'
  else
    "$@"
  fi
}

# Whether units can be started here: on a running systemd, and not below DESTDIR.
systemd_here() { [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; }

# The release that a link of $BASE names, or nothing.
release_of() { if [ -L "$BASE/$1" ]; then basename "$(readlink "$BASE/$1")"; fi; }

# Points a link of $BASE at a release in one step: there is no moment without one.
point() {
  run ln -sfn "releases/$2" "$BASE/.$1.new"
  run mv -T "$BASE/.$1.new" "$BASE/$1"
}

# The Apply Layer waits while the gate restarts: plans stay pending in Redis and find their verdict when it is back.
restart_services() {
  local unit words
  if ! systemd_here; then
    say "nothing is started: no systemd here. By hand, the gate first:"
    for unit in "$SIDECAR" "$APPLY"; do
      words=("$BASE/current/venv/bin/python" -m p33_sidecar.cli.by_hand "$UNITS/$unit")
      if [ -n "$DESTDIR" ]; then words+=(--root "$DESTDIR"); fi
      printf ' '; printf ' %q' "${words[@]}"; printf '\n'
    done
    return
  fi
  run systemctl daemon-reload
  run systemctl enable --quiet "$SIDECAR" "$APPLY" "$CANARY"
  run systemctl stop "$APPLY"
  # Ready means compared, and a gate without credentials never is: so it is waited for, but not for ever.
  run timeout 60 systemctl restart "$SIDECAR" || say "the gate is not ready yet: systemctl status $SIDECAR says why"
  run systemctl start "$APPLY"
  run systemctl start "$CANARY"
  restart_pipeline
}

# A release without the pipeline (an older one, after rollback.sh) leaves nothing to start.
restart_pipeline() {
  if [ ! -e "$UNITS/$DAEMON" ]; then return; fi
  if [ -e "$BASE/current/.pipeline" ]; then
    run systemctl enable --quiet "$DAEMON" "$WEB"
    run systemctl restart "$DAEMON" "$WEB"
  else
    run systemctl disable --quiet --now "$WEB" "$DAEMON"
    say "the pipeline is not part of this release: its units are stopped"
  fi
}
