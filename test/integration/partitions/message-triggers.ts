// How each message of the protocol is brought about: asked for again until the man in the middle has met it.

import type { MessageType } from './frame-proxy.ts'
import { type MessageFleet, plainVm, sealedVm } from './message-fleet.ts'

export interface Trigger {
  bring(fleet: MessageFleet): Promise<unknown>
  /** Puts right what only the test has done. */
  after?(fleet: MessageFleet): Promise<unknown>
}

const reset: Trigger = { bring: (fleet) => fleet.reset() }
/** Both come by themselves with every connection. */
const connect: Trigger = { bring: async (fleet) => fleet.proxy.cut() }
const wait: Trigger = { bring: async () => undefined }
const unreadable = { type: 'nothing' }

/** Off and on again: what the scheduler knows of it must not be older than what is. */
const startSealed: Trigger = {
  bring: async (fleet) => {
    await fleet.ended(await fleet.ask(`/v1/vms/${sealedVm}/stop`, { force: true }))
    await fleet.ended(await fleet.ask(`/v1/vms/${sealedVm}/start`))
  }
}

const stopAndStart: Trigger = {
  bring: async (fleet) => {
    const isOff = (await fleet.vm(plainVm)).wanted === 'stopped'
    await fleet.ended(
      await fleet.ask(`/v1/vms/${plainVm}/${isOff ? 'start' : 'stop'}`, isOff ? {} : { force: true })
    )
  },
  after: async (fleet) => {
    await fleet.ended(await fleet.ask(`/v1/vms/${plainVm}/start`))
  }
}

const refused: Trigger = { bring: (fleet) => fleet.provision(fleet.newName(), 'nowhere', 'failed') }

/** There is no such repository: the run fails, and its report is told all the same. */
const backup: Trigger = {
  bring: (fleet) => fleet.ask(`/v1/vms/${plainVm}/backup`, { target: 'main' }, { end: 'failed' })
}

const newHostKey: Trigger = { bring: (fleet) => fleet.ask(`/v1/hosts/${fleet.hostId}/rotate-key`) }

/** As after a teardown; disks that are encrypted take seconds to make. */
const keysGone: Trigger = {
  bring: async (fleet) => {
    fleet.noteKeysGone()
    fleet.proxy.cut()
  }
}

/** A VM that is kept for a day, which is over at once. */
const eraseKept: Trigger = {
  bring: async (fleet) => {
    const name = fleet.newName()
    await fleet.ended(await fleet.provision(name, 'plain'))
    await fleet.ended(await fleet.ask(`/v1/vms/${name}?retainDays=1`, undefined, { method: 'DELETE' }))
    const now = fleet.clock.now()
    const retained = { until: now - 1, since: now - 2, wanted: 'running' } as const
    await fleet.hypervisor.annotate(name, { retained }, { signal: AbortSignal.timeout(10_000) })
    await fleet.reset()
  }
}

/** Each step is a statement of its own. */
const newTrust: Trigger = {
  bring: async (fleet) => {
    const { api } = fleet
    const path = '/v1/rotations/command-key'
    const { status } = await api.ask({ method: 'POST', path: `${path}/start`, json: {} })
    if (status >= 300) await api.ask({ method: 'POST', path: `${path}/abort`, json: {} })
  }
}

/** A receipt that got lost: the next head does not go on from what the scheduler has. */
const lostReceipt: Trigger = {
  bring: async (fleet) => {
    fleet.proxy.drop('scheduler', 'audit-receipt')
    await fleet.reset()
  }
}

/** The trail of another host, or of an earlier day: refused once the scheduler holds the true one. */
const foreignHead: Trigger = {
  bring: async (fleet) =>
    (await fleet.heads()) === 0
      ? fleet.reset()
      : fleet.proxy.say('agent', { type: 'audit-head', seq: 1, hash: 'f'.repeat(64) }),
  after: async (fleet) => {
    await fleet.api.delete(`/v1/hosts/${fleet.hostId}/audit`)
    // With a new connection the host tells its head at once.
    fleet.proxy.cut()
  }
}

export const ofAgent: { readonly [Type in MessageType<'agent'>]: Trigger } = {
  hello: connect,
  heartbeat: wait,
  inventory: stopAndStart,
  event: reset,
  metrics: wait,
  ack: reset,
  refusal: refused,
  progress: reset,
  result: reset,
  backups: backup,
  erasures: eraseKept,
  'disk-keys': newHostKey,
  'disk-keys-gone': keysGone,
  'disk-keys-request': startSealed,
  'audit-head': reset,
  'trust-ack': newTrust,
  problem: { bring: async (fleet) => fleet.proxy.say('scheduler', unreadable) }
}

export const ofScheduler: { readonly [Type in MessageType<'scheduler'>]: Trigger } = {
  welcome: connect,
  // The scheduler of now never changes them.
  settings: {
    bring: async (fleet) =>
      fleet.proxy.say('scheduler', { type: 'settings', heartbeatIntervalMs: 2_000, metricsIntervalMs: 2_000 })
  },
  clock: connect,
  command: reset,
  'result-ack': reset,
  'backups-ack': backup,
  'erasures-ack': eraseKept,
  'disk-keys-ack': newHostKey,
  'disk-keys-gone-ack': keysGone,
  'disk-keys-grant': startSealed,
  'audit-question': lostReceipt,
  'audit-receipt': reset,
  'audit-refusal': foreignHead,
  trust: newTrust,
  problem: { bring: async (fleet) => fleet.proxy.say('agent', unreadable) }
}
