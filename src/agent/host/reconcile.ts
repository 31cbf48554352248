// After the host booted: starts the VMs that should run. Within one boot a VM that is off stays off.

import { asHostletError, type ErrorCode, type ErrorReport } from '../../errors.ts'
import type { Host } from './host.ts'
import type { VmRecord, Wait } from './hypervisor.ts'
import { isOff } from './making.ts'

export interface FailedStart {
  readonly vm: string
  readonly error: ErrorReport
}

export interface Reconciliation {
  /** Whether the host has booted since VMs were last started here. */
  readonly afterBoot: boolean
  readonly started: readonly string[]
  readonly failed: readonly FailedStart[]
}

export interface HeldVm {
  readonly vm: string
  readonly uuid: string
}

/** Who has a VM to himself. */
export interface VmTurns {
  /** Keeps operations from a VM until disposed of; undefined while one has it. */
  tryHold(vm: string): Promise<AsyncDisposable> | undefined
  /** Waits until no operation works on a VM. */
  hold(vm: string, signal: AbortSignal): Promise<AsyncDisposable>
}

/** What becomes of VMs that an operation has. */
export interface Held extends Pick<VmTurns, 'tryHold'> {
  /** Looks at them when it has ended. On disk when it resolves. */
  later(vms: readonly HeldVm[]): Promise<void>
  /** Whether it was started since the host booted: what its guest did from then on is the guest's. */
  hasStarted(uuid: string): boolean
  /** Nothing more is started after this boot. */
  over(): void
}

const recordName = 'vms-started'
const startsAtOnceMax = 2
export const wentAway: ReadonlySet<ErrorCode> = new Set(['E_UNAVAILABLE', 'E_INTERRUPTED', 'E_TIMEOUT'])

/**
 * The rule: `wanted` is changed by commands only, never by what a guest does. At the first connect after a host boot every
 * VM with `wanted: running` that is off is started, whoever switched it off before: at a host's shutdown guests are shut
 * down in the same way as they shut themselves down, and the two cannot be told apart. At a later connect, such as
 * after a restart of the agent or of libvirtd, nothing is started: a VM that went off during this boot did so by itself.
 * A VM that an operation has keeps nobody waiting: it is looked at once that has ended, with the same rule.
 * What remains to be started is kept on the way: where libvirt goes away or the agent is killed in between, those that were
 * started are no longer among it.
 * A VM that an operation started before libvirt first told which there are has had its start of this boot, too.
 * A VM that is being provisioned is `stopped` until it is ready, so that it is left to its operation.
 */
export async function reconcile(
  host: Pick<Host, 'hypervisor' | 'vms' | 'bootRecord' | 'log'>,
  wait: Wait,
  others: Held = noOthers
): Promise<Reconciliation> {
  const { hypervisor, bootRecord, log } = host
  const before = await bootRecord.read(recordName)
  if (before === true) {
    others.over()
    return { afterBoot: false, started: [], failed: [] }
  }
  const queue = (await hypervisor.listVms(wait))
    .map(({ specification: { name: vm, uuid }, ...record }) => ({ vm, uuid, ...record }))
    .filter(({ uuid }) => !Array.isArray(before) || before.includes(uuid))
  const left = new Left((uuids) => bootRecord.write(recordName, uuids))
  const isDue = (record: (typeof queue)[number]) => shouldStart(record) && !others.hasStarted(record.uuid)
  await left.add(queue.filter(isDue))
  const held: HeldVm[] = []
  const started: string[] = []
  const failed: FailedStart[] = []
  const work = async () => {
    for (let record = queue.shift(); record !== undefined; record = queue.shift()) {
      const { vm, uuid } = record
      const hold = others.tryHold(vm)
      if (hold === undefined) {
        held.push({ vm, uuid })
        await left.add([record])
        continue
      }
      await using _held = await hold
      if (!isDue(record)) continue
      const error = await startOne(host, record, wait)
      if (error === undefined || error === 'other by now' || !wentAway.has(error.code))
        await left.remove([record])
      if (error === 'other by now') continue
      if (error === undefined) started.push(vm)
      else failed.push({ vm, error })
    }
  }
  await Promise.all(Array.from({ length: startsAtOnceMax }, work))
  wait.signal.throwIfAborted()
  if (held.length > 0) {
    await others.later(held)
    await left.remove(held)
  }
  // One that cannot start is told and left, unless libvirt went away meanwhile: then the next connect goes on.
  if (!failed.some(({ error }) => wentAway.has(error.code))) {
    await bootRecord.write(recordName, true)
    others.over()
  }
  if (started.length + failed.length + held.length > 0)
    log.info(
      { started: started.length, failed: failed.length, held: held.length },
      'VMs started after host boot'
    )
  return { afterBoot: true, started, failed }
}

/** What remains to be started, written down one version after the other. */
class Left {
  readonly #uuids = new Set<string>()
  readonly #write: (uuids: readonly string[]) => Promise<void>
  #writing: Promise<void> = Promise.resolve()

  constructor(write: (uuids: readonly string[]) => Promise<void>) {
    this.#write = write
  }

  add(vms: readonly { readonly uuid: string }[]): Promise<void> {
    for (const { uuid } of vms) this.#uuids.add(uuid)
    return this.#keep()
  }

  remove(vms: readonly { readonly uuid: string }[]): Promise<void> {
    for (const { uuid } of vms) this.#uuids.delete(uuid)
    return this.#keep()
  }

  /** A note that cannot be written keeps no VM from being started: one may be started once more. */
  #keep(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#write([...this.#uuids])).catch(() => undefined)
    return this.#writing
  }
}

const noOthers: Held = {
  tryHold: async () => ({ [Symbol.asyncDispose]: async () => undefined }),
  later: async () => undefined,
  hasStarted: () => false,
  over: () => undefined
}

function shouldStart({ wanted, state }: Pick<VmRecord, 'wanted' | 'state'>): boolean {
  return wanted === 'running' && isOff({ state })
}

/** Starting all VMs of a host takes a while, and commands go on: one that was stopped or removed meanwhile stays so. */
export async function startOne(
  { hypervisor, vms, log }: Pick<Host, 'hypervisor' | 'vms' | 'log'>,
  { vm, uuid }: HeldVm,
  wait: Wait
): Promise<ErrorReport | 'other by now' | undefined> {
  try {
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
