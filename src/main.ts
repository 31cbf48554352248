#!/usr/bin/env node
// The program: words of the command line in, exit status out. The only place that ends the process.

import { run } from './cli/run.ts'

// A reader such as `head` that has seen enough is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1)
})

const status = await run(process.argv.slice(2))
// What a pipe has not taken yet would be lost. No deadline: its reader may be a person with a pager.
for (const stream of [process.stdout, process.stderr])
  if (stream.writableLength > 0) await new Promise((resolve) => stream.write('', resolve))
process.exit(status)
