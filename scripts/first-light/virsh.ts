// libvirt as seen by its own tool: a witness that shares no code with what it looks at.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)
const timeoutMs = 30_000

/** Standard output of one virsh command. Throws with virsh's own words. */
export async function virsh(...words: readonly string[]): Promise<string> {
  const options = {
    timeout: timeoutMs,
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
    maxBuffer: 16 * 1024 ** 2
  }
  const { stdout } = await run('virsh', ['-q', '-c', 'qemu:///system', ...words], options)
  return stdout
}

/** The names that a listing prints, one a line. */
export async function virshNames(...words: readonly string[]): Promise<readonly string[]> {
  const text = await virsh(...words)
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
}
