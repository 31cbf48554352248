#!/bin/sh
# Builds the small guest of the demo and the tests: Debian's cloud kernel, busybox, QEMU's guest agent and scripts/guest on
# a bootable FAT disk. Needs no loop device, no mount, and neither a kernel nor a guest agent installed on this machine.
# The attacker of the isolation tests is the same guest with a sender of raw frames and a shell behind HTTP.
#
#   sh scripts/guest-image.sh               build .cache/guest/hostlet-guest.qcow2 and hostlet-attacker.qcow2 (and .sha256)
#   sh scripts/guest-image.sh --if-needed   exit 10 and do nothing when its inputs have not changed
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
source=$root/scripts/guest
out=$root/.cache/guest
image=$out/hostlet-guest.qcow2
attacker=$out/hostlet-attacker.qcow2
disk_mib=128
# Every time in the image is this one, so that the same inputs give the same bytes.
SOURCE_DATE_EPOCH=1735689600
export SOURCE_DATE_EPOCH MTOOLS_SKIP_CHECK=1

main() {
  mkdir -p "$out/kernel" "$out/agent"
  fetch_kernel
  fetch_agent
  wanted=$(inputs_digest)
  if [ "${1-}" = --if-needed ] && [ -s "$image" ] && [ -s "$image.sha256" ] &&
    [ -s "$attacker" ] && [ -s "$attacker.sha256" ] &&
    [ "$(cat "$image.inputs" 2>/dev/null)" = "$wanted" ]; then
    exit 10
  fi
  work=$(mktemp -d "$out/build.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM HUP
  # A time-out or a killed build leaves its directory.
  find "$out" -maxdepth 1 -name 'build.*' ! -path "$work" -mmin +60 -exec rm -rf {} +
  dpkg-deb -x "$kernel_package" "$work/kernel"
  dpkg-deb -x "$agent_package" "$work/agent"
  rm -f "$image.inputs"
  build_tree
  build_image "$image"
  arm_tree
  build_image "$attacker"
  echo "$wanted" >"$image.inputs"
}

# build_image PATH: from the tree as it is.
build_image() {
  build_initrd
  build_disk
  # The digest file last: whoever finds it finds the image that it describes.
  rm -f "$1.sha256"
  mv "$work/image.qcow2" "$1"
  sha256sum "$1" | cut -d ' ' -f 1 >"$work/sha256"
  mv "$work/sha256" "$1.sha256"
  echo "$1 $(cat "$1.sha256")"
}

# The kernel once fetched is kept: a new one appears only when somebody removes .cache.
fetch_kernel() {
  kernel_package=$(find "$out/kernel" -name 'linux-image-*.deb' | sort | tail -n 1)
  [ -z "$kernel_package" ] || return 0
  name=$(kernel_name)
  if [ -z "$name" ]; then
    apt-get -q update
    name=$(kernel_name)
  fi
  [ -n "$name" ] || { echo 'apt knows no package linux-image-cloud-amd64'; exit 1; }
  download "$name" "$out/kernel"
  kernel_package=$(find "$out/kernel" -name 'linux-image-*.deb' | sort | tail -n 1)
}

# Kept in the same way.
fetch_agent() {
  agent_package=$(find "$out/agent" -name 'qemu-guest-agent_*.deb' | sort | tail -n 1)
  [ -z "$agent_package" ] || return 0
  download qemu-guest-agent "$out/agent"
  agent_package=$(find "$out/agent" -name 'qemu-guest-agent_*.deb' | sort | tail -n 1)
}

# download PACKAGE DIRECTORY
download() {
  download=$(mktemp -d "$out/build.XXXXXX")
  (cd "$download" && apt-get -q download "$1") || (apt-get -q update && cd "$download" && apt-get -q download "$1")
  mv "$download"/*.deb "$2/"
  rmdir "$download"
}

kernel_name() {
  apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1
}

inputs_digest() {
  {
    sha256sum <"$kernel_package"
    sha256sum <"$agent_package"
    sha256sum </bin/busybox
    dpkg-query -W -f '${Package} ${Version}\n' libc6 libglib2.0-0
    dpkg-query -W -f '${Package} ${Version}\n' syslinux socat
    cd "$source" && sha256sum -- * ../guest-image.sh
  } | sha256sum | cut -d ' ' -f 1
}

build_tree() {
  tree=$work/tree
  mkdir -p "$tree/bin" "$tree/sbin" "$tree/dev" "$tree/proc" "$tree/sys" "$tree/lib/modules" \
    "$tree/etc/guest" "$tree/etc/acpi/PWRF" "$tree/www/cgi-bin"
  cp /bin/busybox "$tree/bin/busybox"
  for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
  done
  for applet in init acpid; do ln -s ../bin/busybox "$tree/sbin/$applet"; done
  ln -s sbin/init "$tree/init"
  cp "$source/inittab" "$tree/etc/inittab"
  copy_agent
  for script in start lease lease-keeper power agent; do install -m 755 "$source/$script" "$tree/etc/guest/$script"; done
  printf '#!/bin/sh\nexec /etc/guest/power off\n' >"$tree/etc/acpi/PWRF/00000080"
  chmod 755 "$tree/etc/acpi/PWRF/00000080"
  for page in index write sum work; do install -m 755 "$source/$page.cgi" "$tree/www/cgi-bin/$page"; done
  mv "$tree/www/cgi-bin/index" "$tree/www/cgi-bin/index.cgi"
  printf 'root:x:0:0:root:/root:/bin/sh\n' >"$tree/etc/passwd"
  copy_modules
}

# What an attacker has besides: socat sends and receives raw frames, and the tests give their orders by HTTP.
arm_tree() {
  install -D -m 755 /usr/bin/socat "$tree/usr/bin/socat"
  copy_libraries /usr/bin/socat
  install -m 755 "$source/run.cgi" "$tree/www/cgi-bin/run"
  install -m 755 "$source/at-boot" "$tree/etc/guest/at-boot"
}

build_initrd() {
  find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  (cd "$tree" && find . | LC_ALL=C sort | cpio -o -H newc --reproducible -R 0:0 --quiet) | zstd -q -12 >"$work/initrd"
}

# The agent's libraries are the same as those of QEMU, which is installed here; its package is not.
copy_agent() {
  install -D -m 755 "$work/agent/usr/sbin/qemu-ga" "$tree/usr/sbin/qemu-ga"
  copy_libraries "$work/agent/usr/sbin/qemu-ga"
}

copy_libraries() {
  ldd "$1" | sed -n 's/^.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) .*/\1/p' |
    while read -r library; do install -D -m 755 "$(readlink -f "$library")" "$tree$library"; done
}

# Each module after those it needs, in one flat directory.
copy_modules() {
  version=$(ls "$work/kernel/lib/modules")
  depmod -b "$work/kernel" "$version"
  grep -v '^#' "$source/modules" | while read -r module; do
    modprobe -d "$work/kernel" -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
  done | awk '!seen[$0]++' >"$work/module-files"
  while read -r file; do
    flat=$(basename "$file")
    case $flat in
      *.xz) xz -dc "$file" >"$tree/lib/modules/${flat%.xz}" ;;
      *.zst) zstd -qdc "$file" >"$tree/lib/modules/${flat%.zst}" ;;
      *) cp "$file" "$tree/lib/modules/$flat" ;;
    esac
    flat=${flat%.xz}
    echo "${flat%.zst}" >>"$tree/etc/guest/load-order"
  done <"$work/module-files"
}

build_disk() {
  rm -rf "$work/files" "$work/disk.raw"
  mkdir "$work/files" "$work/files/hostlet"
  cp "$work"/kernel/boot/vmlinuz-* "$work/files/vmlinuz"
  cp "$work/initrd" "$source/syslinux.cfg" "$work/files/"
  find "$work/files" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
  truncate -s "${disk_mib}M" "$work/disk.raw"
  mkfs.fat -F 16 -n HOSTLET -i 05715e70 --invariant "$work/disk.raw"
  mcopy -s -m -i "$work/disk.raw" "$work/files/vmlinuz" "$work/files/initrd" "$work/files/syslinux.cfg" \
    "$work/files/hostlet" ::
  syslinux --install "$work/disk.raw"
  qemu-img convert -f raw -O qcow2 -o compat=1.1 "$work/disk.raw" "$work/image.qcow2"
}

main "$@"
