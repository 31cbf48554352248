// Serial logs of the VMs that asked for one, on memory-backed storage: virtlogd writes and bounds them, we remove them.

import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

export class Consoles {
  readonly #directory: string

  constructor({ directory }: { directory: string }) {
    this.#directory = directory
  }

  /** Removes the log of a VM and the older ones that virtlogd kept beside it. No effect when there is none. */
  async remove(uuid: string): Promise<void> {
    const names = await readdir(this.#directory).catch(() => [])
    for (const name of names) {
      if (name.startsWith(`${uuid}.log`)) await rm(join(this.#directory, name), { force: true })
    }
  }
}
