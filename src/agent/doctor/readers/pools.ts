// Whether the storage of the pools answers: asked by programs of their own, which are left where it does not.

import { stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { asHostletError } from '../../../errors.ts'
import { runProcess } from '../../../lib/run-process.ts'
import type { Wait } from '../../host/hypervisor.ts'
import type { PoolAnswer, PoolSpace } from '../facts.ts'

const program = join(import.meta.dirname, 'pool-probe.ts')
/** Longer than any disk takes that works. */
const answerMsMax = 10_000

/** Undefined where there is no such directory. Throws when it can neither be read nor does it hang. */
export async function poolAnswer(path: string, wait: Wait): Promise<PoolAnswer | undefined> {
  const options = { ...wait, deadlineMs: answerMsMax }
  try {
    const { exitCode, stdout, stderr } = await runProcess(process.execPath, [program, path], options)
    if (exitCode === 0) return { path, answer: stdout === 'written' ? 'written' : 'read' }
    if (stderr.includes('ENOENT')) return undefined
    throw new Error(`${path}: ${/E[A-Z]+: [^\n]*/.exec(stderr)?.[0] ?? 'cannot be read'}`)
  } catch (error) {
    if (asHostletError(error).code === 'E_TIMEOUT') return { path, answer: 'none' }
    throw error
  }
}

/** Undefined where there is no such directory. To be asked of storage that answers only. */
export async function poolSpace(path: string): Promise<PoolSpace | undefined> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined) return undefined
  const [{ bsize, blocks, bavail, bfree, files, ffree }, root] = await Promise.all([statfs(path), stat('/')])
  return {
    path,
    sizeBytes: blocks * bsize,
    freeBytes: bavail * bsize,
    reservedBytes: (bfree - bavail) * bsize,
    inodes: files,
    inodesFree: ffree,
    isRoot: root.dev === found.dev
  }
}
