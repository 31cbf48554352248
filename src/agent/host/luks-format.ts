// Encrypted qcow2 files made by qemu-img: libvirt's own making takes many seconds, and cannot be told how slow guesses should be.

import { randomBytes } from 'node:crypto'
import { chmod, rm, writeFile } from 'node:fs/promises'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { mustRun } from '../../lib/run-process.ts'
import type { Wait } from './hypervisor.ts'

export interface LuksFile {
  /** In a private directory on memory-backed storage: the key lies beside it for as long as it is made. */
  readonly path: string
  readonly passphrase: string
  readonly sizeBytes: number
}

export interface LuksWait extends Wait {
  readonly clock: Pick<Clock, 'sleep'>
  /** Yields to everything else that wants the CPU. */
  readonly background?: true
}

const keyBytes = 32
const createMs = 60_000
const attemptsMax = 24
const retryMs = 200
/** Passphrases are random and long: slowing down guesses would only slow down every start. */
export const luksIterationMs = 10

/** 256 random bits, as text: libvirt hands a passphrase on as UTF-8. */
export function newPassphrase(): string {
  return randomBytes(keyBytes).toString('base64')
}

/** Makes the file. Throws what mustRun throws. */
export async function formatLuks({ path, passphrase, sizeBytes }: LuksFile, wait: LuksWait): Promise<void> {
  const keyPath = `${path}.key`
  await writeFile(keyPath, passphrase, { mode: 0o600 })
  const options = `compat=1.1,encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=${luksIterationMs}`
  const secret = `secret,id=key,file=${keyPath}`
  const args = ['create', '-q', '-f', 'qcow2', '--object', secret, '-o', options, path, String(sizeBytes)]
  try {
    await retryLuks(
      wait,
      () => runLuks('qemu-img', args, wait),
      () => rm(path, { force: true })
    )
    await chmod(path, 0o600)
  } finally {
    await rm(keyPath, { force: true })
  }
}

/** QEMU measures the machine's speed by CPU time, and gives up when it got none of it: then it is asked again. */
export async function retryLuks<Value>(
  { clock, signal }: LuksWait,
  work: () => Promise<Value>,
  before: () => Promise<void>
): Promise<Value> {
  for (let left = attemptsMax; ; left--) {
    try {
      return await work()
    } catch (error) {
      if (left <= 1 || !(error instanceof HostletError) || error.code !== 'E_INTERNAL') throw error
      await before()
      await clock.sleep(retryMs, signal)
    }
  }
}

/** Runs one of QEMU's programs on a LUKS file. Throws what mustRun throws. */
export async function runLuks(program: string, args: readonly string[], wait: LuksWait): Promise<string> {
  const [first, ...rest] = wait.background ? ['nice', '-n', '19', program, ...args] : [program, ...args]
  return await mustRun(first, rest, { signal: wait.signal, deadlineMs: createMs })
}
