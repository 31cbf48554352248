// The Node.js that the program runs on, from the package that pins it.

import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync } from 'node:fs'
import { join } from 'node:path'

/** Where the runtime's own files are. Throws when it is not installed. */
export function runtimePackage(root: string): string {
  const directory = join(root, 'node_modules', `node-linux-${process.arch}`)
  if (existsSync(join(directory, 'bin/node'))) return directory
  throw new Error(`${directory} is missing: run "npm ci" with optional dependencies`)
}

/** Without the symbols that only a debugger of C++ needs: a fifth of its size. */
export function copyRuntime(root: string, to: string): void {
  cpSync(join(runtimePackage(root), 'bin/node'), to)
  chmodSync(to, 0o755)
  const { status, error, stderr } = spawnSync('strip', ['--strip-unneeded', to], { encoding: 'utf8' })
  if (error !== undefined) console.warn('strip (binutils) is not there: the runtime keeps its symbols, 33 MB')
  else if (status !== 0) throw new Error(`strip failed: ${stderr}`)
}
