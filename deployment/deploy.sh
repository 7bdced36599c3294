#!/usr/bin/env bash
# Installs p33 beside what is there and proves that it works. May be run again at any time: what is done stays done.
set -euo pipefail

usage() {
  cat <<'END'
usage: deployment/deploy.sh [options]
  --host USER@HOST     on that host, over rsync and ssh; as root there, or by sudo
  --dry-run            say every step, change nothing
  --testnet-env FILE   take the exchange's credentials over from this file (default: /etc/quantum/testnet.env)
  --redis-users        make the Redis users in /etc/quantum/redis, and log in as them
  --pipeline           archive, audit and reports too: Dagster and its two units; later deployments keep them
  --no-proof           do not prove it at the end
END
  printf '%s\n' 'environment: DESTDIR=FOLDER installs below a folder, starts nothing; PYTHON=python3.11'
}

SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
HOST='' DRY=no TESTNET_ENV='' REDIS_USERS=no PIPELINE=no PROOF=yes
PYTHON=${PYTHON:-python3.11}
PASSED=()
while [ $# -gt 0 ]; do
  case $1 in
    --host) HOST=${2:?--host needs USER@HOST}; shift ;;
    --dry-run) DRY=yes; PASSED+=("$1") ;;
    --testnet-env) TESTNET_ENV=${2:?--testnet-env needs a file}; PASSED+=("$1" "$2"); shift ;;
    --redis-users) REDIS_USERS=yes; PASSED+=("$1") ;;
    --pipeline) PIPELINE=yes; PASSED+=("$1") ;;
    --no-proof) PROOF=no; PASSED+=("$1") ;;
    -h|--help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$SOURCE/deployment/lib.sh"

# The programs run as other users than the one who deploys, whose files may be for his eyes alone; secrets set their own.
umask 022

# What is deployed; a checkout holds more.
PARTS=(p33_sidecar p33_pipeline deployment docs pyproject.toml constraints.txt README.md LICENSE)

if [ -n "$HOST" ]; then
  there=.cache/p33-deploy
  command=$(printf '%q ' "DESTDIR=$DESTDIR" "PYTHON=$PYTHON" bash "$there/deployment/deploy.sh" "${PASSED[@]}")
  run ssh "$HOST" "mkdir -p $there"
  run rsync -a --delete --exclude __pycache__ "${PARTS[@]/#/$SOURCE/}" "$HOST:$there/"
  # shellcheck disable=SC2016 # $(id -u) is the remote user's
  run ssh "$HOST" 'if [ "$(id -u)" = 0 ]; then env '"$command"'; else sudo env '"$command"'; fi'
  exit
fi

if [ -n "$TESTNET_ENV" ] && [ ! -r "$TESTNET_ENV" ]; then fail "--testnet-env $TESTNET_ENV cannot be read"; fi

# In an order that is the same in every language: else what is installed already would get another name, and be its own
# previous release.
content() {
  (cd "$SOURCE" && find "${PARTS[@]}" -type f ! -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
}
number=$(sed -n 's/^version = "\(.*\)"/\1/p' "$SOURCE/pyproject.toml")
RELEASE=$number-$(content | sha256sum | cut -c1-8)
TARGET=$BASE/releases/$RELEASE
if [ -e "$UNITS/$DAEMON" ]; then PIPELINE=yes; fi

# The package itself is built from a copy, since building leaves files beside the sources.
install_package() {
  run mkdir -p "$TARGET/source"
  run cp -a "${PARTS[@]/#/$SOURCE/}" "$TARGET/source/"
  run "$TARGET/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    -c "$SOURCE/constraints.txt" "$TARGET/source[$1]"
  run rm -rf "$TARGET/source"
}

install_release() {
  if [ -e "$TARGET/.complete" ]; then
    say "release $RELEASE: installed already"
  else
    say "release $RELEASE: installing into $TARGET"
    run rm -rf "$TARGET"
    run mkdir -p "$TARGET"
    run cp -a "$SOURCE/deployment" "$SOURCE/docs" "$TARGET/"
    run "$PYTHON" -m venv "$TARGET/venv"
    install_package cli
    run touch "$TARGET/.complete"
  fi
  if [ "$PIPELINE" = yes ] && [ ! -e "$TARGET/.pipeline" ]; then
    say "release $RELEASE: adding the pipeline"
    install_package pipeline
    run touch "$TARGET/.pipeline"
  fi
}

install_configuration() {
  local template=$SOURCE/deployment/config/position-state-brain.env name new=()
  if [ ! -e "$ENV_FILE" ]; then
    say "settings: $ENV_FILE is made from the template"
    run install -D -m 0640 "$template" "$ENV_FILE"
    return
  fi
  while read -r name; do
    grep -qE "^[#[:space:]]*$name=" "$ENV_FILE" || new+=("$name")
  done < <(sed -n 's/^#\{0,1\}\([A-Z0-9_]*\)=.*/\1/p' "$template")
  say "settings: $ENV_FILE stays as it is"
  if [ ${#new[@]} -gt 0 ]; then say "settings: new, at their defaults: ${new[*]}"; fi
}

install_credentials() {
  local from=$TESTNET_ENV words=("$CREDENTIALS" --env-file "$ENV_FILE")
  if [ -z "$from" ] && [ -r "$ETC/testnet.env" ]; then from=$ETC/testnet.env; fi
  if [ -n "$from" ]; then words+=(--from "$from"); fi
  if [ "$REDIS_USERS" = yes ]; then
    run "$TARGET/venv/bin/python" -m p33_sidecar.cli.redis_users "$ETC/redis" --env-file "$ENV_FILE"
    words+=(--redis-users "$ETC/redis")
  fi
  run "$TARGET/venv/bin/python" -m p33_sidecar.cli.credentials "${words[@]}"
}

install_units() {
  local unit
  if [ "$PIPELINE" = yes ] && [ ! -e "$ETC/dagster.yaml" ]; then
    run install -D -m 0644 "$SOURCE/deployment/dagster/one-machine.yaml" "$ETC/dagster.yaml"
  fi
  for unit in "$SOURCE"/deployment/systemd/*.service "$SOURCE"/deployment/systemd/*.timer; do
    case ${unit##*/} in *dagster*) [ "$PIPELINE" = yes ] || continue ;; esac
    run install -D -m 0644 "$unit" "$UNITS/${unit##*/}"
  done
  run install -D -m 0755 "$SOURCE/deployment/p33.sh" "$BIN/p33"
}

# A server that does not know the users would only make the gate fail: nothing is switched or started before it does.
require_logins() {
  if [ "$REDIS_USERS" = no ] || ! systemd_here; then return; fi
  run "$TARGET/venv/bin/python" -m p33_sidecar.cli.logins "$CREDENTIALS" ||
    fail "give Redis the users ($ETC/redis/users.acl as its aclfile, deployment/redis/redis.conf), then run this again"
}

switch() {
  local before
  before=$(release_of current)
  if [ "$before" = "$RELEASE" ]; then return; fi
  if [ -n "$before" ]; then point previous "$before"; fi
  point current "$RELEASE"
  say "release $RELEASE is the current one${before:+; $before is kept for rollback.sh}"
}

prove() {
  if [ "$PROOF" = no ]; then say "not proven: --no-proof"; return; fi
  if ! systemd_here; then say "not proven: start it, then deployment/proof.sh"; return; fi
  run "$SOURCE/deployment/proof.sh"
}

install_release
install_configuration
install_credentials
install_units
require_logins
switch
restart_services
prove
