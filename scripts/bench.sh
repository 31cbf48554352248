#!/bin/sh
# `npm run bench`: installs the compiled client that bench compares with, then measures. Arguments go through:
# `npm run bench -- --only libvirt-call`. What the benchmarks need of the machine beyond that is set up by scripts/setup.sh.
set -eu
cd -- "$(dirname -- "$0")/.."
root=$PWD
results=$root/bench/results
failure=$results/peer-failure.txt
log=$results/peer-install.log
peer=$root/bench/node_modules/@unraid/libvirt
pinned=$root/node_modules/.bin/node

main() {
  case " $* " in
    *' --help '* | *' --list '*) ;;
    *)
      sh scripts/setup.sh
      install_peer
      ;;
  esac
  PATH=$root/node_modules/.bin:$PATH
  export PATH
  exec node bench/run.ts "$@"
}

# Without it two figures are reported as not run, and say why; all others are measured.
install_peer() {
  mkdir -p "$results"
  rm -f "$failure"
  ! peer_ready || return 0
  echo 'bench  compiling @unraid/libvirt, the client to compare with (once)' >&2
  : >"$log"
  try 'its Debian packages cannot be installed' install_packages &&
    try 'npm cannot install it' npm ci --ignore-scripts --no-audit --no-fund --prefix "$root/bench" &&
    try 'it does not compile' compile &&
    try 'it does not load' peer_ready ||
    echo "bench  no @unraid/libvirt: $(cat "$failure")" >&2
}

# Compiled, and for the Node that is used.
peer_ready() {
  [ -f "$peer/build/Release/libvirt.node" ] &&
    "$pinned" -e 'require(process.argv[1])' "$peer/build/Release/libvirt.node" 2>/dev/null
}

install_packages() {
  missing=
  for package in libvirt-dev build-essential pkg-config python3; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  apt_get update
  # shellcheck disable=SC2086
  apt_get install -y --no-install-recommends --no-remove $missing
}

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"; }

# The headers of the pinned Node lie in its npm package, so that nothing has to be downloaded for them.
compile() {
  headers=$(dirname "$(dirname "$(readlink -f "$pinned")")")
  (cd "$peer" && PATH=$root/node_modules/.bin:$PATH "$root/bench/node_modules/.bin/node-gyp" rebuild --nodedir="$headers")
}

# try WHAT-IF-NOT COMMAND...
try() {
  what=$1
  shift
  "$@" >>"$log" 2>&1 </dev/null && return
  echo "$what; the log is bench/results/peer-install.log" >"$failure"
  return 1
}

main "$@"
