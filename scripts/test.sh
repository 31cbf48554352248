#!/bin/sh
# `npm test`: sets the machine up, then lints, checks types and runs every test. Arguments go to the runner:
# `npm test -- unit`, `npm test -- test/lib`.
set -eu
cd -- "$(dirname -- "$0")/.."
sh scripts/setup.sh
PATH=$PWD/node_modules/.bin:$PATH
export PATH
exec node scripts/run-tests.ts --checks "$@"
