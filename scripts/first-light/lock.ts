// One first light of a name at a time: a file with the process that holds it, taken over when that is gone.

import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { parseProcessStat } from '../../src/agent/metrics/proc.ts'
import { Missing } from './missing.ts'
import type { Settings } from './settings.ts'

export class Lock {
  readonly #file: string

  private constructor(file: string) {
    this.#file = file
  }

  /** Throws when another run holds it. */
  static take({ lockFile, name }: Settings): Lock {
    const holder = readText(lockFile)
    const [pid = '', startTicks = ''] = holder.split(' ')
    // The start tells a process from a later one with its number.
    if (holder !== '' && startOf(pid) === startTicks)
      throw new Missing(
        `another first light runs as process ${pid}: end it first, or give this one a --name other than ${name}`
      )
    rmSync(lockFile, { force: true })
    writeFileSync(lockFile, `${process.pid} ${startOf(String(process.pid))}`, { flag: 'wx', mode: 0o600 })
    return new Lock(lockFile)
  }

  release(): void {
    rmSync(this.#file, { force: true })
  }
}

function startOf(pid: string): string | undefined {
  const text = readText(`/proc/${Number(pid)}/stat`)
  return parseProcessStat(text)?.startTicks.toString()
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // No file, or no such process: nobody holds it.
    return ''
  }
}
