// Whether a backup boots: a throw-away machine of it without a network card, that shows its guest's agent and is removed.

import { randomBytes, randomUUID } from 'node:crypto'
import { asHostletError, HostletError } from '../../errors.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Host } from '../host/host.ts'
import { Making } from '../host/making.ts'
import type { Operation, Step } from '../operations/verb.ts'
import type { SnapshotQuery } from './catalog.ts'
import { claimStep, disksStep, type MadeVm, specificationOf, startStep } from './restore-new.ts'
import { lazily, lookUp, type RestorePlan } from './restore-plan.ts'

/** Emulated guests need minutes. */
export const bootMs = 600_000
const pollMs = 500
/** No command is behind the machine; its UUID is one that nothing else has. */
const generation = 1

/** Steps after which `bootFault` says why the snapshot does not boot, or is undefined. Nothing of the machine is left. */
export function bootSteps(query: Omit<SnapshotQuery, 'snapshot'>, host: Host): readonly Step[] {
  const making = new Making(host.hypervisor)
  const made = (plan: RestorePlan): MadeVm => ({
    ...query,
    plan,
    host,
    making,
    trial: true,
    generationOf: () => generation
  })
  return [
    {
      name: 'choose a throw-away name',
      apply: async (operation) => {
        const snapshot = String(operation.notes.snapshot)
        const { backedUp, ...found } = await lookUp({ ...query, snapshot }, host, operation)
        const name = `verify-${randomBytes(8).toString('hex')}`
        const { ready: _ready, ...rest } = specificationOf(backedUp, found.disks, {
          name,
          uuid: randomUUID(),
          profile: profileOf(backedUp.profile, host)
        })
        host.vms.requireMemory(rest)
        return { ...found, specification: { ...rest, consoleLog: false } }
      }
    },
    lazily('define the throw-away machine', (plan) => claimStep(made(plan))),
    lazily('restore its disks', (plan) => disksStep(made(plan))),
    lazily('start it and wait for its guest', (plan) => ({
      ...startStep(made(plan)),
      apply: async (operation) => {
        const bootFault = await boots(made(plan), operation)
        return bootFault === undefined ? { booted: true } : { booted: true, bootFault }
      }
    })),
    lazily('remove the throw-away machine', (plan) => ({
      name: 'remove',
      apply: async (operation) => {
        for (const make of [startStep, disksStep, claimStep]) await make(made(plan)).undo?.(operation)
      }
    }))
  ]
}

/** Why its guest did not come up. Throws what is no fault of the backup. */
async function boots(made: MadeVm, operation: Operation): Promise<string | undefined> {
  const { host, plan } = made
  const { name } = plan.specification
  using deadline = startDeadline({
    clock: host.clock,
    ms: bootMs,
    what: 'the boot of the backup',
    signal: operation.signal
  })
  await startStep(made).apply(operation)
  operation.progress({ note: "waiting for the guest's agent" })
  try {
    for (;;) {
      const record = await host.hypervisor.findVm(name, deadline)
      if (record?.state !== 'running')
        return `the restored machine is ${record?.state ?? 'gone'} (${record?.reason ?? 'removed'}) before its guest was up`
      if ((await host.hypervisor.guestAgent(name, deadline)) === 'connected') return undefined
      await host.clock.sleep(pollMs, deadline.signal)
    }
  } catch (error) {
    operation.signal.throwIfAborted()
    if (!deadline.signal.aborted) throw asHostletError(error)
    return `no guest agent (qemu-guest-agent) showed within ${bootMs / 1_000} s in the restored machine`
  }
}

/** The machine has no network; of another host's profile it needs a place in the books of this one only. */
function profileOf(profile: string, host: Host): string {
  if (Object.hasOwn(host.config.profiles, profile)) return profile
  const [first] = Object.keys(host.config.profiles)
  if (first !== undefined) return first
  throw new HostletError('E_BAD_REQUEST', 'no profile is configured on this host')
}
