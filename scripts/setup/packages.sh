# The Debian packages and node_modules: installs what is missing, and only that.

# libvirt and QEMU; the guest image's tools; what the tests inspect with; an S3 service for the tests; what bench compares
# backups with; the browser that the dashboard is tested in.
packages='
libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 qemu-utils ovmf
dnsmasq-base nftables iproute2 genisoimage libnbd-bin tini
busybox-static mtools syslinux dosfstools cpio zstd xz-utils kmod binutils libatomic1
systemd openssl procps ca-certificates util-linux socat
radosgw ceph-mon ceph-osd ceph-common
chromium
restic virtnbdbackup'

packages_install() {
  missing=$(packages_missing)
  [ -n "$missing" ] || return 0
  [ ! -e /usr/bin/pveversion ] ||
    fail "this is a Proxmox host, without:$missing" 'Set-up is for development machines; it would replace Proxmox packages.'
  say packages "installing:$missing"
  step packages 'package lists updated' apt_get update
  # A machine killed during an earlier run leaves dpkg half-way.
  dpkg --configure -a >>"$log" 2>&1 </dev/null 9>&- || true
  # --no-remove: never trade somebody's package for one of ours.
  # shellcheck disable=SC2086
  step packages 'packages installed' apt_get install -y --no-install-recommends --no-remove $missing
  missing=$(packages_missing)
  [ -z "$missing" ] || fail "apt reported success, but these are not installed:$missing" "See $log"
}

packages_missing() {
  # shellcheck disable=SC2086
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $packages 2>/dev/null | sed -n 's/^installed //p')
  installed=" $(echo "$installed" | tr '\n' ' ') "
  for package in $packages; do
    case $installed in
      *" $package "*) ;;
      *) printf ' %s' "$package" ;;
    esac
  done
}

apt_get() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# By content, not by time: a checkout gives the lock file a new time, and "npm ci" deletes what others are using.
node_modules_install() {
  if ! node "$root/scripts/setup/installed.mjs" "$root"; then
    step node 'node_modules installed' npm ci --ignore-scripts --no-audit --no-fund --prefix "$root"
  fi
  [ -x "$root/node_modules/.bin/node" ] ||
    fail "node_modules/.bin/node is missing" 'Were optional dependencies left out? Try: npm ci --include=optional'
  "$root/node_modules/.bin/node" --version >>"$log" 2>&1 ||
    fail 'the pinned Node does not start here' "$("$root/node_modules/.bin/node" --version 2>&1 | tail -n 1)"
}
