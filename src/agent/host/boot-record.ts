// Small facts that hold until the host boots: kept as files in the runtime directory, each with the boot it belongs to.

import { readFileSync } from 'node:fs'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export class BootRecord {
  readonly #directory: string
  readonly #bootId: string

  /** `bootId` is the kernel's random id of this boot, which differs after each. */
  constructor({ directory, bootId = readBootId() }: { directory: string; bootId?: string }) {
    this.#directory = directory
    this.#bootId = bootId
  }

  get bootId(): string {
    return this.#bootId
  }

  /** What was written under the name since the host booted; undefined when nothing was, or it cannot be read. */
  async read(name: string): Promise<unknown> {
    try {
      const found: unknown = JSON.parse(await readFile(this.#path(name), 'utf8'))
      if (typeof found !== 'object' || found === null || !('bootId' in found) || !('value' in found))
        return undefined
      return found.bootId === this.#bootId ? found.value : undefined
    } catch {
      // Absent or half-written is the same: it is found out anew.
      return undefined
    }
  }

  async write(name: string, value: unknown): Promise<void> {
    await mkdir(this.#directory, { recursive: true })
    const path = this.#path(name)
    await writeFile(`${path}.new`, JSON.stringify({ bootId: this.#bootId, value }), { mode: 0o600 })
    await rename(`${path}.new`, path)
  }

  #path(name: string): string {
    return join(this.#directory, `${name}.json`)
  }
}

function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}
