// Which accelerator VMs get: KVM only where a machine has really run in it.

import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import {
  type Connection,
  type Domain,
  domainCreateFlag,
  domainCreateXml,
  domainDestroyFlags,
  domainEventDetail,
  domainEvents,
  domainEventType
} from 'node-libvirt'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline, untilAborted } from '../../lib/deadline.ts'
import { userLabel } from './domain-xml.ts'
import type { Wait } from './hypervisor.ts'
import { fromLibvirt } from './libvirt-errors.ts'
import { trialMetadataElement } from './metadata.ts'
import { trialDisk, trialDiskBytes } from './trial-disk.ts'
import type { Volumes } from './volumes.ts'
import { element, renderXml } from './xml.ts'

/** A host where KVM works needs a tenth of this, one where it does not may never say so. */
export const trialMs = 10_000
const cleanUpMs = 30_000
const trialMemoryMib = 64

export interface TrialOptions {
  readonly connection: Connection
  readonly volumes: Pick<Volumes, 'uploadBase' | 'find' | 'remove'>
  readonly clock: Clock
  /** User and group of the trial: as a VM would run, so that it also proves that /dev/kvm lets it in. */
  readonly uid: number
  readonly gid: number
}

export interface TrialResult {
  readonly works: boolean
  /** How the trial ended, for the log. */
  readonly detail: string
}

/**
 * Boots a throw-away machine in KVM that goes through paging, long mode, an exception and a system call, and powers
 * itself off. `/dev/kvm` may open on hosts where such a guest never gets that far.
 */
export async function tryKvm(options: TrialOptions, wait: Wait): Promise<TrialResult> {
  const name = `hostlet-trial-${randomUUID().slice(0, 8)}`
  const volume = `${name}.img`
  const { volumes } = options
  try {
    await volumes.uploadBase({ name: volume, sizeBytes: trialDiskBytes }, Readable.from([trialDisk()]), wait)
    const disk = await volumes.find(volume, wait)
    const xml = trialXml({ name, diskPath: disk?.path ?? '', ...options })
    return await run({ ...options, name, xml }, wait)
  } finally {
    await volumes.remove(volume, { signal: AbortSignal.timeout(cleanUpMs) })
  }
}

async function run(trial: TrialOptions & { name: string; xml: string }, wait: Wait): Promise<TrialResult> {
  const { connection, name, xml, clock } = trial
  const ended = Promise.withResolvers<TrialResult>()
  await using _subscription = await connection.on(
    domainEvents.lifecycle,
    ({ domain, event, detail }) => {
      const result = domain.name === name ? resultOf(event, detail) : undefined
      if (result) ended.resolve(result)
    },
    wait
  )
  using deadline = startDeadline({ clock, ms: trialMs, what: 'the trial of KVM', signal: wait.signal })
  let domain: Domain | undefined
  try {
    // The machine dies with the connection: a killed agent leaves none behind.
    const flags = domainCreateFlag.autodestroy
    domain = (await connection.call(domainCreateXml, { xml, flags }, { ...wait, deadlineMs: trialMs })).domain
    return await untilAborted(ended.promise, deadline.signal)
  } catch (error) {
    wait.signal.throwIfAborted()
    return { works: false, detail: fromLibvirt(error, 'trial of KVM').message }
  } finally {
    if (domain) await end(connection, domain)
  }
}

/** A machine that powered itself off is gone already. */
async function end(connection: Connection, domain: Domain): Promise<void> {
  const options = { signal: AbortSignal.timeout(cleanUpMs), deadlineMs: cleanUpMs }
  await connection.call(domainDestroyFlags, { domain, flags: 0 }, options).catch(() => undefined)
}

function resultOf(event: number, detail: number): TrialResult | undefined {
  const { stopped, suspended } = domainEventDetail
  if (event === domainEventType.stopped) {
    const works = detail === stopped.shutdown
    return { works, detail: works ? 'powered itself off' : 'ended otherwise' }
  }
  // QEMU pauses a machine that KVM cannot go on with.
  const halted = event === domainEventType.suspended && detail !== suspended.migrated
  return halted || event === domainEventType.crashed
    ? { works: false, detail: 'halted by an error of KVM' }
    : undefined
}

/** Restarts on reset: a guest that falls over and over must not look like one that powered off. */
function trialXml(trial: { name: string; diskPath: string; uid: number; gid: number }): string {
  return renderXml(
    element(
      'domain',
      { type: 'kvm' },
      element('name', {}, trial.name),
      element('metadata', {}, trialMetadataElement()),
      element('memory', { unit: 'MiB' }, String(trialMemoryMib)),
      element('vcpu', {}, '1'),
      element(
        'os',
        {},
        element('type', { arch: 'x86_64', machine: 'q35' }, 'hvm'),
        element('boot', { dev: 'hd' })
      ),
      element('features', {}, element('acpi'), element('apic')),
      element('cpu', { mode: 'host-passthrough', check: 'none' }),
      element('on_poweroff', {}, 'destroy'),
      element('on_reboot', {}, 'restart'),
      element('on_crash', {}, 'destroy'),
      element(
        'devices',
        {},
        trialDrive(trial.diskPath),
        element('controller', { type: 'usb', model: 'none' }),
        element('memballoon', { model: 'none' })
      ),
      userLabel(trial.uid, trial.gid)
    )
  )
}

function trialDrive(path: string) {
  return element(
    'disk',
    { type: 'file', device: 'disk' },
    element('driver', { name: 'qemu', type: 'raw' }),
    element('source', { file: path }, element('seclabel', { model: 'dac', relabel: 'no' })),
    element('target', { dev: 'vda', bus: 'virtio' }),
    element('readonly')
  )
}
