// Runs the program as a person does: a process of its own, with nothing of this machine's settings.

import { execFile } from 'node:child_process'
import { join } from 'node:path'

export interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

export const mainPath = join(import.meta.dirname, '../../src/main.ts')
const deadlineMs = 60_000

/** No variable of the caller's comes along but the path, so that no test depends on who runs it. */
export function environment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  return { PATH: process.env.PATH ?? '', HOME: '/nonexistent', TZ: 'UTC', ...extra }
}

export function hostlet(
  words: readonly string[],
  extra: Readonly<Record<string, string>> = {},
  input?: string
): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { env: environment(extra), timeout: deadlineMs, killSignal: 'SIGKILL' as const }
    const child = execFile(process.execPath, [mainPath, ...words], options, (_error, stdout, stderr) =>
      resolve({ status: child.exitCode, stdout, stderr })
    )
    if (input !== undefined) child.stdin?.end(input)
  })
}
