// A domain's backup job as libvirt tells of it: whether one runs, whose it is, and its end.

import { join } from 'node:path'
import {
  type Connection,
  type Domain,
  domainAbortJob,
  domainBackupGetXmlDesc,
  domainGetJobInfo,
  errorCode,
  jobType
} from 'node-libvirt'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { isOurJob } from './backup-xml.ts'
import type { ConnectionRole } from './connections.ts'
import type { Wait } from './hypervisor.ts'
import { attempt, isAnswer } from './libvirt-errors.ts'
import { backupSocketName } from './names.ts'

export interface JobControlOptions {
  readonly connection: (role: ConnectionRole) => Connection
  readonly qemuDirectory: string
  readonly clock: Clock
}

const quickMs = 10_000
const abortMs = 60_000
/** libvirt answers an abort before QEMU has ended the job. */
const lookAgainMs = 50
const endedWithinMs = 60_000
/** As libvirt shortens the names of domains in paths (VIR_DOMAIN_SHORT_NAME_MAX). */
const shortNameMax = 20
/** What a domain that is gone, off or has no job answers. */
const noJob = [errorCode.noDomainBackup, errorCode.operationInvalid, errorCode.noDomain]

export class JobControl {
  readonly #options: JobControlOptions

  constructor(options: JobControlOptions) {
    this.#options = options
  }

  /** In the running domain's own directory: nowhere else may its QEMU make a socket, and libvirt removes it with the rest. */
  socketPath({ id, name }: Domain, token: string): string {
    const directory = `domain-${id}-${name.slice(0, shortNameMax)}`
    return join(this.#options.qemuDirectory, directory, backupSocketName(token))
  }

  async jobOf(domain: Domain, wait: Wait): Promise<'none' | 'ours' | 'other'> {
    const xml = await this.#backupXml(domain, wait)
    if (xml !== undefined) return isOurJob(xml) ? 'ours' : 'other'
    return await attempt(`look at jobs of ${domain.name}`, async () => {
      try {
        const { type } = await this.#control.call(domainGetJobInfo, { domain }, quick(wait))
        return type === jobType.bounded || type === jobType.unbounded ? 'other' : 'none'
      } catch (error) {
        if (noJob.some((code) => isAnswer(error, code))) return 'none'
        throw error
      }
    })
  }

  /** E_BUSY when it is another job that stood in the way; undefined otherwise. */
  async busyOr(domain: Domain, error: unknown, doing: string): Promise<HostletError | undefined> {
    const held = [errorCode.operationTimeout, errorCode.operationInvalid, errorCode.resourceBusy]
    if (!held.some((code) => isAnswer(error, code))) return undefined
    const job = await this.jobOf(domain, { signal: AbortSignal.timeout(quickMs) }).catch(() => 'none')
    if (job === 'none' && !isAnswer(error, errorCode.operationTimeout)) return undefined
    return new HostletError('E_BUSY', `${doing}: another job holds the VM. Try again when it has ended.`, {
      cause: error
    })
  }

  /** Ends a backup job that an agent of ours began. False when there is none. */
  async abortOurs(domain: Domain, wait: Wait): Promise<boolean> {
    const { clock } = this.#options
    if ((await this.jobOf(domain, wait)) !== 'ours') return false
    const doing = `end the backup job of VM ${domain.name}`
    await attempt(doing, async () => {
      const options = { signal: wait.signal, deadlineMs: abortMs }
      await this.#jobs.call(domainAbortJob, { domain }, options).catch((error) => {
        if (!noJob.some((code) => isAnswer(error, code))) throw error
      })
    })
    const until = clock.monotonic() + endedWithinMs
    while ((await this.#backupXml(domain, wait)) !== undefined) {
      if (clock.monotonic() > until) throw new HostletError('E_TIMEOUT', `${doing}: QEMU does not end it`)
      await clock.sleep(lookAgainMs, wait.signal)
    }
    return true
  }

  async #backupXml(domain: Domain, wait: Wait): Promise<string | undefined> {
    return await attempt(`look at the backup job of ${domain.name}`, async () => {
      try {
        return (await this.#control.call(domainBackupGetXmlDesc, { domain, flags: 0 }, quick(wait))).xml
      } catch (error) {
        if (noJob.some((code) => isAnswer(error, code))) return undefined
        throw error
      }
    })
  }

  get #control(): Connection {
    return this.#options.connection('control')
  }

  get #jobs(): Connection {
    return this.#options.connection('jobs')
  }
}

function quick(wait: Wait): Wait & { deadlineMs: number } {
  return { signal: wait.signal, deadlineMs: quickMs }
}
