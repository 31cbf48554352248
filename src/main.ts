#!/usr/bin/env node
// The program: words of the command line in, exit status out. The only place that ends the process.

import { run } from './cli/run.ts'

// A reader such as `head` that has seen enough is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1)
})

process.exit(await run(process.argv.slice(2)))
