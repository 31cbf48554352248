#!/bin/sh
# GET /cgi-bin/sum?file=NAME: the SHA-256 of a file that /cgi-bin/write made.
name=$(echo "$QUERY_STRING" | sed -n 's/.*file=\([a-z0-9]\{1,32\}\).*/\1/p')
directory=/mnt/root/hostlet
[ ! -e /run/data-disk ] || directory=/mnt/data
printf 'Content-Type: text/plain\r\n\r\n'
sha256sum "$directory/${name:-random}" 2>/dev/null | cut -d ' ' -f 1
