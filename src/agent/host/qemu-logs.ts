// QEMU's own logs, which libvirt keeps for each VM: they hold the passphrases of its disks under a key of libvirt's, and go with the VM.

import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../../lib/log.ts'

/** Where libvirt's system daemons have QEMU log. */
export const qemuLogDirectory = '/var/log/libvirt/qemu'

export class QemuLogs {
  readonly #directory: string
  readonly #log: Logger

  constructor({ directory = qemuLogDirectory, log }: { directory?: string; log: Logger }) {
    this.#directory = directory
    this.#log = log
  }

  /**
   * Removes the log of a VM that is off and the older ones that virtlogd or logrotate kept. The directory is root's unless
   * it was set up for the agent (systemd/var-log-libvirt-qemu.mount): where it may not, that is said, and "hostlet doctor"
   * tells what to do. A VM is torn down nevertheless: without its keys the log is worth nothing.
   */
  async remove(vm: string): Promise<void> {
    const names = await readdir(this.#directory).catch(() => [])
    for (const name of names.filter((name) => isLogOf(vm, name))) {
      try {
        await rm(join(this.#directory, name), { force: true })
      } catch (error) {
        this.#log.warn({ vm, error }, "QEMU's log could not be removed")
      }
    }
  }
}

/** NAME.log, NAME.log.0 of virtlogd, NAME.log.1.gz of logrotate. A VM's name has no dot, so none is another VM's. */
function isLogOf(vm: string, name: string): boolean {
  return name.startsWith(`${vm}.log`) && /^(\.\d+(\.gz)?)?$/.test(name.slice(vm.length + 4))
}
