# Prometheus and promtool for the tests of metrics and alerts: out of Debian's package, which is unpacked and not installed,
# since installing it starts a daemon.

prometheus=$cache/prometheus

prometheus_fetch() {
  [ ! -x "$prometheus/root/usr/bin/promtool" ] || return 10
  fetched=$prometheus/fetch
  rm -rf "$fetched"
  mkdir -p "$fetched"
  (cd "$fetched" && apt_get download prometheus) || { apt_get update && (cd "$fetched" && apt_get download prometheus); }
  dpkg-deb -x "$fetched"/prometheus_*.deb "$fetched/root"
  # Whole or not at all: a set-up that is killed leaves nothing that looks done.
  rm -rf "$prometheus/root"
  mv "$fetched/root" "$prometheus/root"
  rm -rf "$fetched"
  "$prometheus/root/usr/bin/promtool" --version
}
