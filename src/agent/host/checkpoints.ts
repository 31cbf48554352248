// Checkpoints of ours in libvirt: listed, removed with their bitmaps where that can be, and told to libvirt again.

import {
  type Checkpoint,
  type Connection,
  checkpointCreateFlag,
  checkpointDeleteFlag,
  checkpointListFlag,
  domainCheckpointCreateXml,
  domainCheckpointDelete,
  domainCheckpointGetXmlDesc,
  domainCheckpointLookupByName,
  domainListAllCheckpoints,
  domainState,
  errorCode
} from 'node-libvirt'
import { asHostletError, HostletError } from '../../errors.ts'
import type { Logger } from '../../lib/log.ts'
import type { BackupPauses } from './backup-pauses.ts'
import { checkpointNameIn } from './backup-xml.ts'
import type { ConnectionRole } from './connections.ts'
import type { Domains } from './domains.ts'
import type { Wait } from './hypervisor.ts'
import { attempt, fromLibvirt, isAnswer, orAbsent } from './libvirt-errors.ts'
import { checkpointName, ownCheckpoint } from './names.ts'

export interface CheckpointsOptions {
  readonly connection: (role: ConnectionRole) => Connection
  readonly domains: Pick<Domains, 'require' | 'stateOf'>
  readonly pauses: Pick<BackupPauses, 'startPaused' | 'settle'>
  readonly log: Logger
}

const quickMs = 10_000
const deleteMs = 60_000
const settleMs = 60_000

export class Checkpoints {
  readonly #options: CheckpointsOptions

  constructor(options: CheckpointsOptions) {
    this.#options = options
  }

  async list(vm: string, wait: Wait): Promise<readonly string[]> {
    const { domain } = await this.#options.domains.require(vm, wait)
    const args = { domain, needResults: true, flags: checkpointListFlag.topological }
    const { checkpoints } = await attempt(`list checkpoints of VM ${vm}`, () =>
      this.#control.call(domainListAllCheckpoints, args, quick(wait))
    )
    return checkpoints.map(({ name }) => ownCheckpoint(name)).filter((name) => name !== undefined)
  }

  /** With the domain's: libvirt takes it back only so. */
  async xml(vm: string, name: string, wait: Wait): Promise<string> {
    const checkpoint = await this.#find(vm, name, wait)
    if (checkpoint === undefined) throw new HostletError('E_NOT_FOUND', `VM ${vm} has no checkpoint ${name}`)
    const args = { checkpoint, flags: 0 }
    const { xml } = await attempt(`look at checkpoint ${name} of VM ${vm}`, () =>
      this.#control.call(domainCheckpointGetXmlDesc, args, quick(wait))
    )
    return xml
  }

  /**
   * Only QEMU can take bitmaps out of disks: for a VM that is off it stands paused meanwhile. What cannot be removed from
   * a disk is removed from what libvirt knows.
   */
  async remove(vm: string, names: readonly string[], wait: Wait): Promise<void> {
    const found = await Promise.all(names.map((name) => this.#find(vm, name, wait)))
    const [first, ...others] = found.filter((checkpoint) => checkpoint !== undefined)
    if (first === undefined) return
    const doing = `remove checkpoints of VM ${vm}`
    const state = await this.#options.domains.stateOf(first.domain, doing, wait)
    const wasOff = state === domainState.shutOff || state === domainState.crashed
    const on = !wasOff || (await this.#startedPaused(vm, wait))
    try {
      for (const checkpoint of [first, ...others]) {
        if (on && (await this.#removed(checkpoint, doing, wait))) continue
        await orAbsent(errorCode.noDomainCheckpoint, doing, () =>
          this.#delete(checkpoint, checkpointDeleteFlag.metadataOnly, wait)
        )
      }
    } finally {
      if (wasOff) await this.#options.pauses.settle(vm, { signal: AbortSignal.timeout(settleMs) })
    }
  }

  async redefine(vm: string, xml: string, wait: Wait): Promise<void> {
    const { domain } = await this.#options.domains.require(vm, wait)
    const doing = `redefine a checkpoint of VM ${vm}`
    const name = ownCheckpoint(checkpointNameIn(xml))
    if (name !== undefined && (await this.#find(vm, name, wait)) !== undefined) return
    const state = await this.#options.domains.stateOf(domain, doing, wait)
    const off = state === domainState.shutOff || state === domainState.crashed
    // Of a VM that is off nobody can tell; its next backup does.
    const flags = checkpointCreateFlag.redefine | (off ? 0 : checkpointCreateFlag.redefineValidate)
    try {
      const args = { domain, xml: withoutParent(xml), flags }
      await this.#jobs.call(domainCheckpointCreateXml, args, quick(wait))
    } catch (error) {
      const failure = staleOr(error, doing)
      // libvirt has answered and does not take it, whatever it is that it minds.
      if (failure.code !== 'E_LIBVIRT') throw failure
      throw new HostletError('E_STALE', failure.message, { cause: error, details: failure.details })
    }
  }

  /** False when it cannot: its disk may be missing, and the checkpoint has to go all the same. */
  async #startedPaused(vm: string, wait: Wait): Promise<boolean> {
    try {
      await this.#options.pauses.startPaused(vm, wait)
      return true
    } catch (error) {
      wait.signal.throwIfAborted()
      this.#options.log.warn({ vm, error: asHostletError(error) }, 'bitmaps of checkpoints stay in the disks')
      return false
    }
  }

  /** False when libvirt finds the bitmap inconsistent or missing. */
  async #removed(checkpoint: Checkpoint, doing: string, wait: Wait): Promise<boolean> {
    try {
      await this.#delete(checkpoint, 0, wait)
      return true
    } catch (error) {
      if (isAnswer(error, errorCode.noDomainCheckpoint)) return true
      const spoilt = [errorCode.checkpointInconsistent, errorCode.internalError, errorCode.operationInvalid]
      if (spoilt.some((code) => isAnswer(error, code))) return false
      throw fromLibvirt(error, doing)
    }
  }

  async #delete(checkpoint: Checkpoint, flags: number, wait: Wait): Promise<void> {
    const options = { signal: wait.signal, deadlineMs: deleteMs }
    await this.#jobs.call(domainCheckpointDelete, { checkpoint, flags }, options)
  }

  async #find(vm: string, name: string, wait: Wait): Promise<Checkpoint | undefined> {
    const { domain } = await this.#options.domains.require(vm, wait)
    const args = { domain, name: checkpointName(name), flags: 0 }
    const found = await orAbsent(errorCode.noDomainCheckpoint, `find checkpoint ${name} of VM ${vm}`, () =>
      this.#control.call(domainCheckpointLookupByName, args, quick(wait))
    )
    return found?.checkpoint
  }

  get #control(): Connection {
    return this.#options.connection('control')
  }

  get #jobs(): Connection {
    return this.#options.connection('jobs')
  }
}

/** The checkpoint before it is removed once it stands: libvirt takes back none whose parent it does not know. */
function withoutParent(xml: string): string {
  return xml.replace(/<parent>\s*<name>[^<]*<\/name>\s*<\/parent>/, '')
}

/** What libvirt answers when a bitmap is not, or not any more, what a checkpoint says. */
export function staleOr(error: unknown, doing: string): HostletError {
  const stale = [errorCode.noDomainCheckpoint, errorCode.checkpointInconsistent]
  const failure = fromLibvirt(error, doing)
  if (!stale.some((code) => isAnswer(error, code))) return failure
  return new HostletError('E_STALE', failure.message, { cause: error, details: failure.details })
}

function quick(wait: Wait): Wait & { deadlineMs: number } {
  return { signal: wait.signal, deadlineMs: quickMs }
}
