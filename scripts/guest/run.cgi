#!/bin/sh
# POST /cgi-bin/run: carries out the shell script of the body and answers with what it wrote and, in the last line, how it
# ended. Only in the image of an attacker, who is root in a machine of his own.
cat >"/tmp/run.$$"
printf 'Content-Type: text/plain\r\n\r\n'
sh "/tmp/run.$$" 2>&1 </dev/null
code=$?
rm -f "/tmp/run.$$"
printf '\nexit %s\n' "$code"
