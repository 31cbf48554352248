#!/bin/sh
# Makes a Debian 12 machine able to run and test hostlet: packages, node_modules, libvirtd, guest image.
#
#   sh scripts/setup.sh             do what is missing; safe to run again, and from two shells at once
#   sh scripts/setup.sh --status    print "running" or "stopped" for libvirtd, change nothing
#   sh scripts/setup.sh --stop      stop the daemons that an earlier set-up started (never anybody else's)
#
# It never touches a domain, network, pool or firewall table, and never stops a libvirtd it did not start.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cache=$root/.cache
log=$cache/setup.log
# One lock and one record for the machine, not for the clone: apt and libvirtd are shared by all clones.
state=/run/hostlet-setup

# The project's own node is no use here: it may be absent, or half installed.
. "$root/scripts/setup/report.sh"
. "$root/scripts/setup/checks.sh"
. "$root/scripts/setup/packages.sh"
. "$root/scripts/setup/prometheus.sh"
. "$root/scripts/setup/daemons.sh"

main() {
  check_root
  case ${1-} in
    --status) daemons_status; return ;;
    --stop) lock; daemons_stop; return ;;
    '') ;;
    *) fail "unknown option $1" 'Usage: sh scripts/setup.sh [--status | --stop]' ;;
  esac
  started_at=$(now)
  mkdir -p "$cache"
  check_machine
  lock
  : >"$log"
  packages_install
  node_modules_install
  step metrics 'prometheus unpacked' prometheus_fetch
  daemons_start
  step guest 'guest image built' sh "$root/scripts/guest-image.sh" --if-needed
  say ready "$(since "$started_at")"
}

# The lock dies with the process that holds it, so a killed set-up never blocks the next one.
lock() {
  mkdir -p "$state"
  exec 9>"$state/lock"
  flock -n 9 && return
  say wait 'another set-up is running on this machine'
  flock -w 900 9 || fail 'another set-up has held the lock for 15 minutes' "See who does: fuser -v $state/lock"
}

main "$@"
