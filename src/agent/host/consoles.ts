// What of VMs lies in the private directory of consoles, on memory-backed storage: serial logs, which virtlogd writes and
// bounds, and the sockets of guests' agents. We remove them.

import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

export class Consoles {
  readonly #directory: string

  constructor({ directory }: { directory: string }) {
    this.#directory = directory
  }

  /** Removes a VM's log, the older ones that virtlogd kept beside it, and its agent's socket. No effect when there is none. */
  async remove(uuid: string): Promise<void> {
    const names = await readdir(this.#directory).catch(() => [])
    for (const name of names) {
      if (name.startsWith(`${uuid}.`)) await rm(join(this.#directory, name), { force: true })
    }
  }
}
