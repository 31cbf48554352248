#!/bin/sh
# GET /cgi-bin/work?seconds=N&kind=cpu|disk: works as hard as it can for so long, and answers how many rounds it did. A round on
# the disk is 256 KiB, synced. For tests of guests beside each other.
seconds=$(echo "$QUERY_STRING" | sed -n 's/.*seconds=\([0-9]\{1,4\}\).*/\1/p')
kind=$(echo "$QUERY_STRING" | sed -n 's/.*kind=\(cpu\|disk\).*/\1/p')
directory=/mnt/root/hostlet
[ ! -e /run/data-disk ] || directory=/mnt/data
now() { read -r uptime _ </proc/uptime; now=${uptime%.*}; }
now
end=$((now + ${seconds:-1}))
rounds=0
while [ "$now" -lt "$end" ]; do
  if [ "$kind" = disk ]; then
    dd if=/dev/zero of="$directory/work.$$" bs=64k count=4 conv=fsync 2>/dev/null
  else
    step=0
    while [ "$step" -lt 2000 ]; do step=$((step + 1)); done
  fi
  rounds=$((rounds + 1))
  now
done
rm -f "$directory/work.$$"
printf 'Content-Type: text/plain\r\n\r\n%s\n' "$rounds"
