// After the host booted: starts the VMs that should run. Within one boot a VM that is off stays off.

import { asHostletError, type ErrorCode, type ErrorReport } from '../../errors.ts'
import type { Host } from './host.ts'
import type { VmRecord, Wait } from './hypervisor.ts'

export interface Reconciliation {
  /** Whether the host has booted since VMs were last started here. */
  readonly afterBoot: boolean
  readonly started: readonly string[]
  readonly failed: readonly { readonly vm: string; readonly error: ErrorReport }[]
}

const recordName = 'vms-started'
const startsAtOnceMax = 2
const wentAway: ReadonlySet<ErrorCode> = new Set(['E_UNAVAILABLE', 'E_INTERRUPTED', 'E_TIMEOUT'])

/** Waits until no operation works on a VM, and keeps others from it until disposed of. */
export type HoldVm = (vm: string, signal: AbortSignal) => Promise<AsyncDisposable | undefined>

/**
 * The rule: `wanted` is changed by commands only, never by what a guest does. At the first connect after a host boot every
 * VM with `wanted: running` that is off is started, whoever switched it off before: at a host's shutdown guests are shut
 * down in the same way as they shut themselves down, and the two cannot be told apart. At a later connect, such as
 * after a restart of the agent or of libvirtd, nothing is started: a VM that went off during this boot did so by itself.
 * A VM that is being provisioned is `stopped` until it is ready, so that it is left to its operation.
 */
export async function reconcile(
  host: Pick<Host, 'hypervisor' | 'vms' | 'bootRecord' | 'log'>,
  wait: Wait,
  hold: HoldVm = () => Promise.resolve(undefined)
): Promise<Reconciliation> {
  const { hypervisor, bootRecord, log } = host
  if ((await bootRecord.read(recordName)) === true) return { afterBoot: false, started: [], failed: [] }
  const off = (await hypervisor.listVms(wait)).filter(shouldStart)
  const started: string[] = []
  const failed: { vm: string; error: ErrorReport }[] = []
  const queue = [...off]
  const work = async () => {
    for (let record = queue.shift(); record !== undefined; record = queue.shift()) {
      const { name } = record.specification
      const error = await startOne(host, record, { ...wait, hold })
      if (error === 'other by now') continue
      if (error === undefined) started.push(name)
      else failed.push({ vm: name, error })
    }
  }
  await Promise.all(Array.from({ length: startsAtOnceMax }, work))
  wait.signal.throwIfAborted()
  // One that cannot start is told and left, unless libvirt went away meanwhile: then the next connect goes on.
  if (!failed.some(({ error }) => wentAway.has(error.code))) await bootRecord.write(recordName, true)
  if (off.length > 0)
    log.info({ started: started.length, failed: failed.length }, 'VMs started after host boot')
  return { afterBoot: true, started, failed }
}

function shouldStart({ wanted, state }: VmRecord): boolean {
  return wanted === 'running' && (state === 'stopped' || state === 'crashed')
}

/** Starting all VMs of a host takes a while, and commands go on: one that was stopped or removed meanwhile stays so. */
async function startOne(
  { hypervisor, vms, log }: Pick<Host, 'hypervisor' | 'vms' | 'log'>,
  { specification: { name: vm, uuid } }: VmRecord,
  { hold, ...wait }: Wait & { hold: HoldVm }
): Promise<ErrorReport | 'other by now' | undefined> {
  try {
    await using _held = await hold(vm, wait.signal)
    const record = await hypervisor.findVm(vm, wait)
    if (record?.specification.uuid !== uuid || !shouldStart(record)) return 'other by now'
    await vms.start(record, wait)
    log.info({ vm }, 'VM started after host boot')
    return undefined
  } catch (thrown) {
    const error = asHostletError(thrown)
    log.error({ vm, error }, 'VM could not be started after host boot')
    return error.toReport()
  }
}
