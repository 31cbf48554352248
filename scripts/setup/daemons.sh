# libvirtd and virtlogd: uses the ones that run, starts them where no init system does, stops only those it started.

uri=qemu:///system
answer_seconds_max=60
record=$state/daemons

daemons_start() {
  if is_answering; then return 0; fi
  if [ -d /run/systemd/system ]; then
    step libvirt 'libvirtd answers' start_by_systemd
  else
    step libvirt 'libvirtd started' start_by_hand
  fi
}

# A connection that hangs counts as no answer.
is_answering() {
  [ -S /run/libvirt/libvirt-sock ] || [ -S /run/libvirt/virtqemud-sock ] || return 1
  timeout 10 virsh -q -c "$uri" version --daemon >/dev/null 2>&1 9>&- </dev/null
}

start_by_systemd() {
  systemctl start virtlogd.socket 2>/dev/null || true
  systemctl start libvirtd.socket 2>/dev/null || systemctl start virtqemud.socket virtnetworkd.socket virtstoraged.socket
  wait_for_answer
}

start_by_hand() {
  if hung=$(pgrep -x libvirtd); then
    echo "libvirtd runs (process $hung) but does not answer; look at it, or stop it: kill $hung"
    return 1
  fi
  kvm_prepare
  clear_stale
  forget_gone
  # libvirtd makes it with the first dnsmasq, and fails before that to note the MACs of a network without one.
  mkdir -p /var/lib/libvirt/dnsmasq
  start_daemon virtlogd
  # Without an init that reaps orphans libvirt waits two seconds more at each stop of a QEMU: tini is the subreaper.
  start_daemon libvirtd
  wait_for_answer
}

# What udev would have done. Without it libvirt probes QEMU again at every start of a VM, for a minute.
kvm_prepare() {
  [ -c /dev/kvm ] || return 0
  if [ "$(stat -c '%a %U:%G' /dev/kvm)" = '600 root:root' ]; then
    chgrp kvm /dev/kvm
    chmod 660 /dev/kvm
  fi
}

# A killed machine whose /run is on disk leaves these; no process that owns them is alive when this runs.
clear_stale() {
  rm -f /run/libvirt/libvirt-sock /run/libvirt/libvirt-sock-ro /run/libvirt/libvirt-admin-sock /run/libvirtd.pid
  if ! pgrep -x virtlogd >/dev/null; then
    rm -f /run/libvirt/virtlogd-sock /run/libvirt/virtlogd-admin-sock /run/virtlogd.pid
  fi
}

# The record outlives a killed machine where /run is on disk.
forget_gone() {
  [ -e "$record" ] || return 0
  while read -r pid started name; do
    if [ "$(start_time "$pid")" = "$started" ]; then echo "$pid $started $name"; fi
  done <"$record" >"$record.new"
  mv "$record.new" "$record"
}

# start_daemon NAME: in its own session, so that Ctrl-C in this terminal does not reach it.
start_daemon() {
  if pgrep -x "$1" >/dev/null; then return 0; fi
  mkdir -p /run/libvirt
  cd /
  setsid tini -s -- "$1" >"$state/$1.log" 2>&1 9>&- </dev/null &
  cd "$root"
  echo "$! $(start_time $!) $1" >>"$record"
}

wait_for_answer() {
  deadline=$(($(now) + answer_seconds_max * 100))
  until is_answering; do
    if [ "$(now)" -ge "$deadline" ]; then
      tail -n 10 "$state/libvirtd.log" 2>/dev/null || true
      echo "libvirtd did not answer on $uri within $answer_seconds_max s"
      return 1
    fi
    sleep 0.1
  done
}

daemons_status() {
  if is_answering; then echo running; else echo stopped; fi
}

daemons_stop() {
  [ -s "$record" ] || return 0
  if is_answering && running=$(virsh -q -c "$uri" list --name 2>/dev/null | tr -s '\n' ' ') && [ -n "${running% }" ]; then
    say stop "libvirtd left running: VMs run on it ($running)"
    return 0
  fi
  # The newest first: libvirtd before the virtlogd that it talks to.
  sort -r -k 3 "$record" | sort -s -k 3,3 | while read -r pid started name; do
    stop_daemon "$pid" "$started" "$name"
  done
  rm -f "$record"
}

# The start time tells our process from a stranger that got the same number. tini passes the signal on.
stop_daemon() {
  [ "$(start_time "$1")" = "$2" ] || return 0
  kill -TERM "$1" 2>/dev/null || return 0
  tries=150
  while [ "$(start_time "$1")" = "$2" ] && [ "$tries" -gt 0 ]; do
    tries=$((tries - 1))
    sleep 0.1
  done
  if [ "$tries" = 0 ]; then say stop "$3 (process $1) does not stop"; else say stop "$3 stopped"; fi
}

# Clock ticks from boot to the start of a process, nothing if it is gone (or only a zombie is left).
start_time() {
  sed -n 's/^.*) \([^Z]\) /\1 /p' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
}
