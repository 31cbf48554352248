#!/bin/sh
# `npm start`: sets the machine up, then runs the main job. Arguments go through: `npm start -- --once`.
set -eu
cd -- "$(dirname -- "$0")/.."
sh scripts/setup.sh
PATH=$PWD/node_modules/.bin:$PATH
export PATH
# exec: Ctrl-C and SIGTERM must reach the program that has VMs to take down.
exec node scripts/first-light.ts "$@"
