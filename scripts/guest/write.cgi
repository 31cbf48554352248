#!/bin/sh
# GET /cgi-bin/write?mib=N&file=NAME: writes random bytes to the data disk (without one, to the root disk), synced; answers
# with their SHA-256. What a backup or a reboot must keep.
number() { echo "$QUERY_STRING" | sed -n "s/.*$1=\([0-9]\{1,4\}\).*/\1/p"; }
name=$(echo "$QUERY_STRING" | sed -n 's/.*file=\([a-z0-9]\{1,32\}\).*/\1/p')
mib=$(number mib)
directory=/mnt/root/hostlet
[ ! -e /run/data-disk ] || directory=/mnt/data
file=$directory/${name:-random}
printf 'Content-Type: text/plain\r\n\r\n'
dd if=/dev/urandom of="$file" bs=1M count="${mib:-1}" conv=fsync 2>/dev/null || { echo "failed"; exit; }
sync
sha256sum "$file" | cut -d ' ' -f 1
