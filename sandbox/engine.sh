#!/usr/bin/env bash
# A private Docker engine for tests, on Debian 12 or a relative of it, as root: own socket, own data, no bridge, no
# iptables, so that the machine's network is left as it is (containers have no network anyway).
#   engine.sh start            -> installs docker.io where it is missing, prints DOCKER_HOST=...
#   engine.sh tools            -> installs bubblewrap, the sandbox without an engine, and a headless browser for the
#                                 tests of the server's page, where they are missing
#   engine.sh stop             -> stops exactly the engine it started, and removes its containers
#   engine.sh status
#   engine.sh with COMMAND ... -> runs a command with bubblewrap and an engine: the one that answers already, or a
#                                 private one that is stopped afterwards
# Environment: ENGINE_DIR (default $TMPDIR/nad-docker), ENGINE_FLAGS (further flags of dockerd),
#              ENGINE_DRIVERS (default "overlay2 fuse-overlayfs vfs")
set -euo pipefail
DIR=${ENGINE_DIR:-${TMPDIR:-/tmp}/nad-docker}
SOCK=$DIR/docker.sock
PIDFILE=$DIR/docker.pid
LOG=$DIR/dockerd.log
DRIVERS=${ENGINE_DRIVERS:-overlay2 fuse-overlayfs vfs}

ping() {  # answers at once, needs no docker client
  python3 - "$SOCK" <<'PY' 2>/dev/null
import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(2); s.connect(sys.argv[1])
s.sendall(b"GET /_ping HTTP/1.0\r\n\r\n"); sys.exit(b"200 OK" not in s.recv(4096))
PY
}
mine() {  # is PIDFILE's process alive and really our dockerd?
  [ -s "$PIDFILE" ] && local p && p=$(cat "$PIDFILE" 2>/dev/null) && [ -d "/proc/$p" ] &&
    tr '\0' ' ' <"/proc/$p/cmdline" | grep -qF -- "--pidfile $PIDFILE"
}
packages() {  # installs Debian packages
  export DEBIAN_FRONTEND=noninteractive
  mkdir -p "$DIR"
  apt-get update -qq >&2
  apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--path-exclude=/usr/share/man/* "$@" >"$DIR/apt.log" 2>&1 ||
    { tail -20 "$DIR/apt.log" >&2; return 1; }
}
install() {
  command -v dockerd >/dev/null && command -v containerd >/dev/null && command -v runc >/dev/null && return
  packages docker.io
}
tools() {
  if ! command -v bwrap >/dev/null || ! python3 -c 'import ctypes; ctypes.CDLL("libseccomp.so.2")' 2>/dev/null; then
    packages bubblewrap libseccomp2
  fi
  local browser
  for browser in chromium-headless-shell chromium google-chrome chromium-browser; do
    if command -v "$browser" >/dev/null; then return; fi
  done
  packages chromium-headless-shell fonts-dejavu-core
}
orphans() {  # shims of ours (told by our containerd's address) whose daemon is gone, and their containers
  local p c
  for p in /proc/[0-9]*; do
    p=${p#/proc/}
    c=$( (tr '\0' ' ' <"/proc/$p/cmdline") 2>/dev/null) || continue
    [[ $c == *"containerd-shim-runc-v2 -namespace moby"* && $c == *"-address $DIR/exec/containerd/"* ]] || continue
    for c in $(cat "/proc/$p/task/"*/children 2>/dev/null); do kill -KILL "$c" 2>/dev/null || true; done
    kill -KILL "$p" 2>/dev/null || true
  done
}
start() {
  mkdir -p "$DIR"
  if mine && ping; then echo "DOCKER_HOST=unix://$SOCK"; return; fi
  install
  orphans
  # What a hard kill leaves (a closed terminal, say): stale overlay mounts, and a containerd.pid whose
  # process is a zombie until PID 1 reaps it, on which dockerd waits 15 s and gives up.
  local m
  awk -v d="$DIR/" 'index($2, d) == 1 {print $2}' /proc/self/mounts | sort -r | while read -r m; do umount -l "$m"; done
  rm -rf "$DIR/exec"
  local drv
  for drv in $DRIVERS; do
    if [ "$drv" = fuse-overlayfs ] && ! command -v fuse-overlayfs >/dev/null; then
      apt-get install -y -qq --no-install-recommends fuse-overlayfs >>"$DIR/apt.log" 2>&1 || continue
    fi
    rm -f "$PIDFILE" "$SOCK"
    # shellcheck disable=SC2086
    setsid nohup dockerd --data-root "$DIR/data" --exec-root "$DIR/exec" --pidfile "$PIDFILE" \
      -H "unix://$SOCK" --storage-driver "$drv" --bridge=none --iptables=false --ip6tables=false \
      --ip-forward=false --ip-masq=false --log-level warn ${ENGINE_FLAGS:-} \
      >"$LOG" 2>&1 </dev/null &
    local pid=$!
    for _ in $(seq 1 150); do   # 15 s at most
      if ping; then echo "$drv" >"$DIR/driver"; echo "DOCKER_HOST=unix://$SOCK"; return 0; fi
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    echo "dockerd with $drv did not come up:" >&2; tail -5 "$LOG" >&2
    if kill -0 "$pid" 2>/dev/null; then kill "$pid"; wait "$pid" 2>/dev/null || true; fi
  done
  return 1
}
stop() {
  mine || { echo "not running"; return 0; }
  local p; p=$(cat "$PIDFILE")
  # remove what is left first, so that no shim outlives the daemon
  local ids; ids=$(docker -H "unix://$SOCK" ps -aq 2>/dev/null || true)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || docker -H "unix://$SOCK" rm -f $ids >/dev/null 2>&1 || true
  kill -TERM "$p"
  for _ in $(seq 1 150); do mine || { echo stopped; return 0; }; sleep 0.1; done  # a zombie is not mine: no cmdline
  kill -KILL "$p"; echo killed
}
answers() {  # does an engine answer where the caller points, or at the default socket?
  local at=${DOCKER_HOST:-unix:///var/run/docker.sock}
  case $at in
    unix://*) SOCK=${at#unix://} ping ;;
    *) command -v docker >/dev/null && docker -H "$at" version >/dev/null 2>&1 ;;
  esac
}
with() {
  tools || echo "no bubblewrap or no Chromium: install them, or run this as root on Debian" >&2
  if answers; then exec "$@"; fi
  local was_running=0 line status=0
  if mine && ping; then was_running=1; fi
  line=$(start) || { echo "no Docker engine: install one, or run this as root on Debian" >&2; exit 1; }
  export "${line?}"
  "$@" || status=$?
  if [ "$was_running" = 0 ]; then stop >&2; fi
  exit "$status"
}
case ${1:-} in
  start) start ;;
  tools) tools ;;
  stop) stop ;;
  with) shift; with "$@" ;;
  status) if mine && ping; then echo "running pid $(cat "$PIDFILE") driver $(cat "$DIR/driver")"; else echo "not running"; exit 3; fi ;;
  *) echo "usage: $0 start | stop | status | tools | with COMMAND ..." >&2; exit 2 ;;
esac
