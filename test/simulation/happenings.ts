// What happens to a world, by the name that its plan has for it.

import { createHash } from 'node:crypto'
import { HostletError } from '../../src/errors.ts'
import type { Fuse, HostMachine } from './host-machine.ts'
import { commandId } from './network.ts'
import type { EventKind } from './plan.ts'
import type { Random } from './random.ts'
import { epochMs } from './virtual-time.ts'
import type { World } from './world.ts'

type Happening = (world: World, random: Random) => void

const vmNames = ['a', 'b', 'c', 'd'] as const
const mebibyte = 1024 ** 2
/** What is asked without an answer is asked again under the same key. */
const askAgainMs = 5_000

export const happenings: Readonly<Record<EventKind, Happening>> = {
  'ask for a VM': (world, random) => {
    const specification = {
      name: random.pick(vmNames),
      profile: 'starter',
      image: world.fixtures.image,
      cpus: 1,
      memoryBytes: 256 * mebibyte,
      rootDiskBytes: 64 * mebibyte,
      ...(random.chance(0.3) && { dataDiskBytes: 16 * mebibyte })
    }
    const host = random.pick(world.machines).hostId
    ask(world, random, 'POST /v1/vms', { body: { specification, host } })
  },
  'ask to start': (world, random) => askOf(world, random, 'POST /v1/vms/{name}/start', {}),
  'ask to stop': (world, random) =>
    askOf(world, random, 'POST /v1/vms/{name}/stop', {
      ...(random.chance(0.5) ? { force: true } : random.chance(0.5) ? { graceMs: 3_000 } : {})
    }),
  'ask to reboot': (world, random) =>
    askOf(world, random, 'POST /v1/vms/{name}/reboot', random.chance(0.6) ? { force: true } : {}),
  'ask to resize': (world, random) =>
    askOf(world, random, 'POST /v1/vms/{name}/resize', { cpus: random.between(1, 4) }),
  'ask to tear down': (world, random) =>
    ask(world, random, 'DELETE /v1/vms/{name}', { params: { name: random.pick(vmNames) } }),
  'ask for the state': (world, random) => askOf(world, random, 'POST /v1/vms/{name}/refresh', {}),
  'ask to cancel': (world, random) => {
    const ids = [...world.promises.issued.keys()].slice(-3)
    if (ids.length > 0)
      ask(world, random, 'POST /v1/operations/{id}/cancel', { params: { id: random.pick(ids) } })
  },

  'ask to clean up': (world, random) => {
    const { hostId } = random.pick(world.machines)
    ask(world, random, 'POST /v1/hosts/{id}/clean', { params: { id: hostId }, body: { dryRun: false } })
  },
  'drain a host': (world, random) => {
    const { hostId } = random.pick(world.machines)
    const question = { params: { id: hostId }, body: {} }
    ask(world, random, 'POST /v1/hosts/{id}/drain', question)
    world.later(random.between(1_000, 40_000), () =>
      ask(world, random, 'POST /v1/hosts/{id}/resume', question)
    )
  },

  'kill agent': (world, random) => {
    const machine = running(world, random)
    if (machine === undefined) return
    world.trace.fault(machine.name, 'agent killed')
    machine.killAgent()
    world.restartAgent(machine)
  },
  'kill agent at a write': (world, random) =>
    light(world, random, { what: 'journal', ends: 'agent', within: 12 }),
  'kill agent at a call': (world, random) =>
    light(world, random, { what: 'call', ends: 'agent', within: 10 }),
  'ask and kill agent': (world, random) => {
    askAndLight(world, random, { what: 'call', ends: 'agent', when: 'after', left: random.between(1, 4) })
  },
  'ask and cut power': (world, random) => {
    askAndLight(world, random, { what: 'journal', ends: 'power', when: 'after', left: random.between(1, 6) })
  },
  'stop agent': (world, random) => {
    const machine = running(world, random)
    if (machine === undefined) return
    world.trace.fault(machine.name, 'agent stopped')
    world.own(async () => {
      await machine.stopAgent()
      world.restartAgent(machine, 30_000)
    })
  },
  'cut power of host': (world, random) => {
    const machine = random.pick(world.machines)
    world.trace.fault(machine.name, 'power cut')
    machine.cutPower()
    world.restorePower(machine)
  },
  'cut power at a write': (world, random) =>
    light(world, random, { what: 'journal', ends: 'power', within: 30 }),
  'restart libvirtd': (world, random) => {
    const machine = random.pick(world.machines)
    world.trace.fault(machine.name, 'libvirtd restarted')
    machine.libvirtd.stop()
    world.later(random.between(100, 15_000), () => machine.libvirtd.start())
  },
  'kill scheduler': (world, random) => {
    if (!world.scheduler.isRunning) return
    world.trace.fault('scheduler', 'scheduler killed')
    world.scheduler.kill()
    world.later(random.between(500, 20_000), () => world.scheduler.start())
  },
  'kill scheduler at a call': (world, random) => {
    world.scheduler.fuse = { when: random.pick(['before', 'after'] as const), left: random.between(1, 30) }
  },

  'reset connection': (world, random) => {
    for (const connection of world.network.connectionsOf(random.pick(world.machines).name)) {
      world.trace.fault(connection.host, 'connection reset')
      connection.reset()
    }
  },
  'half-open connection': (world, random) => {
    for (const connection of world.network.connectionsOf(random.pick(world.machines).name)) {
      world.trace.fault(connection.host, 'connection half-open')
      if (random.chance(0.5)) connection.resetAgentEnd()
      else connection.resetServerEnd()
    }
  },
  partition: (world, random) => partition(world, random, ['toScheduler', 'toHost']),
  'one-way partition': (world, random) =>
    partition(world, random, [random.pick(['toScheduler', 'toHost'] as const)]),
  'slow network': (world, random) => {
    const link = world.network.link(random.pick(world.machines).name)
    world.trace.fault(link.host, 'network slow')
    link.delayMsMax = random.between(200, 8_000)
    world.later(random.between(5_000, 40_000), () => {
      link.delayMsMax = 20
    })
  },

  'replay commands': (world, random) => {
    const all = [...world.promises.issued.values()].filter(({ claims }) =>
      world.promises.acknowledged.has(claims.id)
    )
    for (let left = random.between(1, 6); left > 0 && all.length > 0; left--)
      inject(world, random, 'command replayed', random.pick(all).jws)
  },
  'forge a command': (world, random) => {
    const all = [...world.promises.issued.values()]
    if (all.length === 0) return
    const { jws, claims } = random.pick(all)
    const [header = '', payload = '', signature = ''] = jws.split('.')
    const changed = {
      ...claims,
      expiresAt: claims.expiresAt + 60_000,
      audience: random.pick(world.machines).hostId
    }
    const forged = [
      `${header}.${encode(changed)}.${signature}`,
      `${header}.${encode({ ...changed, id: idLike(claims.id, random) })}.${signature}`,
      `${encode({ alg: 'none', typ: 'hostlet-command+jwt' })}.${payload}.`,
      `${header}.${payload}`
    ]
    for (const text of forged) inject(world, random, 'command forged', text)
    world.own(async () => {
      const text = await world.fixtures.stranger.sign({ ...changed, id: idLike(claims.id, random) })
      inject(world, random, 'command forged', text)
    })
  },

  'guest shuts down': (world, random) => {
    const machine = random.pick(world.machines)
    const on = world.promises.recordsOf(machine).filter(({ state }) => state === 'running')
    if (on.length === 0) return
    const { name } = random.pick(on).specification
    world.trace.fault(machine.name, 'guest shut down', name)
    machine.libvirtd.happen({ kind: 'guest' }, () => machine.hypervisor.shutDownGuest(name))
  },
  'step a clock': (world, random) => {
    const machine = random.pick(world.machines)
    world.trace.fault(machine.name, 'clock stepped')
    step(world, machine, random.pick([-3_600_000, -90_000, -20_000, 20_000, 90_000, 3_600_000]))
    world.later(random.between(5_000, 60_000), () => step(world, machine, 0))
  },
  'fill the disk': (world, random) => {
    const machine = random.pick(world.machines)
    world.trace.fault(machine.name, 'disk full')
    machine.disk.isFull = true
    world.later(random.between(2_000, 30_000), () => {
      machine.disk.isFull = false
    })
  },
  'revoke and enroll anew': (world, random) => enrollAnew(world, random, { losesState: false }),
  'lose the state directory': (world, random) => enrollAnew(world, random, { losesState: true })
}

function step(world: World, machine: HostMachine, ms: number): void {
  machine.skew.ms = ms
  machine.steppedAt = world.time.elapsed
}

function light(
  world: World,
  random: Random,
  { what, ends, within }: Pick<Fuse, 'what' | 'ends'> & { within: number }
): void {
  const machine = running(world, random)
  const when = random.pick(['before', 'after'] as const)
  if (machine !== undefined) machine.fuse = { what, ends, when, left: random.between(1, within) }
}

/** While the agent does what it was just asked. */
function askAndLight(world: World, random: Random, fuse: Fuse): void {
  const kinds = ['ask to reboot', 'ask to start', 'ask to stop', 'ask to tear down', 'ask for a VM'] as const
  happenings[random.pick(kinds)](world, random)
  for (const machine of world.machines) if (machine.isRunning) machine.fuse = { ...fuse }
}

function running(world: World, random: Random): HostMachine | undefined {
  const machine = random.pick(world.machines)
  return machine.isRunning ? machine : undefined
}

function ask(world: World, random: Random, line: string, asked: Record<string, unknown>): void {
  const key = random.hex(8)
  const hash = createHash('sha256').update(JSON.stringify(asked)).digest()
  const question = { ...asked, repeatable: { scope: 'user', key, hash } }
  world.ask(line, question)
  if (random.chance(0.3)) world.later(askAgainMs, () => world.ask(line, question))
}

function askOf(world: World, random: Random, line: string, body: Record<string, unknown>): void {
  ask(world, random, line, { params: { name: random.pick(vmNames) }, body })
}

function partition(world: World, random: Random, directions: readonly ('toScheduler' | 'toHost')[]): void {
  const { name } = random.pick(world.machines)
  world.trace.fault(name, directions.length === 2 ? 'partition' : 'partition one way', directions.join(' '))
  world.network.block(name, directions)
  world.later(random.between(2_000, 70_000), () => world.network.heal(name))
}

/** Long after, somebody says everything once more that was ever said. */
export function replayAll(world: World): void {
  for (const { jws } of world.promises.issued.values())
    for (const machine of world.machines) injectInto(world, machine, 'command replayed', jws)
}

function inject(world: World, random: Random, kind: string, jws: string): void {
  injectInto(world, random.pick(world.machines), kind, jws)
}

function injectInto(world: World, machine: HostMachine, kind: string, jws: string): void {
  const [connection] = world.network.connectionsOf(machine.name).filter(({ isOpen }) => isOpen)
  if (connection === undefined) return
  world.trace.fault(machine.name, kind, commandId(jws))
  connection.inject(JSON.stringify({ type: 'command', jws }))
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

function idLike(id: string, random: Random): string {
  return `${id.slice(0, -12)}${random.hex(6)}`
}

/** The operator revokes the host, and its machine joins again under another id. */
function enrollAnew(world: World, random: Random, { losesState }: { losesState: boolean }): void {
  const machine = random.pick(world.machines)
  if (!machine.canEnroll || world.enrolling.has(machine)) return
  world.enrolling.add(machine)
  world.trace.fault(machine.name, losesState ? 'state directory lost' : 'host revoked and enrolled anew')
  if (losesState) machine.killAgent()
  let joined = false
  const join = () => {
    if (joined) return
    // Until it has worked: the scheduler may be killed in the middle of it.
    world.later(3_000, join)
    if (!world.scheduler.isRunning) return
    world.own(async () => {
      await answered(world.scheduler.ask('DELETE /v1/hosts/{id}', { params: { id: machine.hostId } }))
      await answered(world.scheduler.enroll(machine.nextHostId, epochMs + world.time.elapsed))
      if (joined) return
      joined = true
      machine.killAgent()
      machine.enrollAnew({ losesState })
      world.enrolling.delete(machine)
      world.restartAgent(machine, 5_000)
    })
  }
  join()
}

/** What was done before is refused with a code. */
async function answered(work: Promise<unknown>): Promise<void> {
  await work.catch((error) => {
    if (!(error instanceof HostletError) || error.code === 'E_INTERNAL') throw error
  })
}
