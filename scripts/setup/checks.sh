# What the machine must be before set-up changes anything: each check is one line, with what to do.

disk_mib_min=3072
project_mib_min=1024
memory_mib_min=1024

check_root() {
  [ "$(id -u)" = 0 ] || fail 'set-up needs root (packages, libvirtd, networks)' 'Run it again as root, for example with sudo.'
}

check_machine() {
  [ "$(uname -s)" = Linux ] || fail 'hostlet runs on Linux' 'Use a Debian 12 machine or VM.'
  case $(uname -m) in
    x86_64) architecture=amd64 ;;
    aarch64)
      fail 'the guest image can be built on amd64 only so far' \
        'The agent itself runs on arm64: see "Install on a host" in README.md.' ;;
    *) fail "the processor is $(uname -m)" 'hostlet runs on amd64 and arm64.' ;;
  esac
  command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
    fail 'apt is not here' 'This set-up knows Debian 12 (and what is built on it).'
  command -v flock >/dev/null || fail 'flock is not here' 'apt-get install util-linux'
  command -v node >/dev/null || fail 'node is not here' 'Install Node 20 or newer with npm; it fetches the pinned Node 26.'
  command -v npm >/dev/null || fail 'npm is not here' 'Install npm (it comes with Node).'
  check_disk / "$disk_mib_min"
  check_disk "$root" "$project_mib_min"
  memory=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
  [ "$memory" -ge "$memory_mib_min" ] ||
    fail "$memory MiB of memory are available, a guest and the daemons need $memory_mib_min" 'Free some memory.'
}

check_disk() {
  free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge "$2" ] || fail "$free MiB are free under $1, set-up needs $2" 'Free some space, or clone onto a larger disk.'
}
