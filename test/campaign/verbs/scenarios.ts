// The table of the campaign: of each verb what is asked, of a host in which state. A verb that is missing here fails the test.

import type { CommandSubject } from '../../../src/protocol/command.ts'
import type { VmSpecification } from '../../../src/protocol/vm.ts'
import type { Ask } from './run.ts'
import type { World } from './world.ts'

export const vm = 'web-1'
export const uuid = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'
export const other = { vm: 'web-2', uuid: '7d5ec2a4-4e0c-4d0f-8a9b-2f1c6e0a9b11' }

export interface Images {
  readonly first: VmSpecification['image']
  readonly second: VmSpecification['image']
}

/** How a host came to be as it is before what is asked of it: each is made once, from one before it, and copied. */
export const states = [
  'empty',
  'running',
  'stopped',
  'kept',
  'backedUp',
  'due',
  'backedUpTwice',
  'sealed',
  'keyless',
  'littered',
  'drifted',
  'draining'
] as const
export type State = (typeof states)[number]

export interface Making {
  readonly from: State | undefined
  readonly asks: readonly Ask[]
  /** Blocks of the root disk that the guest writes afterwards. */
  readonly guestWrites?: readonly number[]
  /** What others do to the host afterwards, behind the agent's back. */
  readonly afterwards?: (world: World) => Promise<void>
  /** The keys of its disks are lost, and known to the campaign. */
  readonly losesKeys?: true
}

const subject = (generation: number) => ({ vm, uuid, generation })

export function makingOf(images: Images): Readonly<Record<State, Making>> {
  return {
    empty: { from: undefined, asks: [] },
    running: {
      from: 'empty',
      asks: [
        { verb: 'vm.provision', subject: subject(1), arguments: { specification: specificationOf(images) } }
      ],
      guestWrites: [0, 1, 7]
    },
    stopped: {
      from: 'running',
      asks: [{ verb: 'vm.stop', subject: subject(2), arguments: { vm, force: true } }]
    },
    kept: {
      from: 'running',
      asks: [{ verb: 'vm.teardown', subject: subject(2), arguments: { vm, retainDays: 3_000 } }]
    },
    due: {
      from: 'backedUp',
      asks: [{ verb: 'vm.teardown', subject: subject(2), arguments: { vm, retainDays: 1, backups: true } }]
    },
    backedUp: { from: 'running', asks: [backUp], guestWrites: [1, 9] },
    backedUpTwice: { from: 'backedUp', asks: [backUp], guestWrites: [2] },
    sealed: {
      from: 'empty',
      asks: [
        {
          verb: 'vm.provision',
          subject: subject(1),
          arguments: { specification: specificationOf(images, { profile: 'sealed' }) }
        },
        { verb: 'vm.stop', subject: subject(2), arguments: { vm, force: true } }
      ]
    },
    keyless: { from: 'sealed', asks: [], losesKeys: true },
    littered: { from: 'running', asks: [], afterwards: undefineByHand },
    drifted: { from: 'running', asks: [], afterwards: changeByHand },
    draining: { from: 'running', asks: [{ verb: 'host.drain' }] }
  }
}

/** All that a VM had stays, for so long that nobody can be at work on it. */
async function undefineByHand(world: World): Promise<void> {
  const call = (method: string, ...args: unknown[]) => world.call({ port: 'hypervisor', method, args })
  await call('cutPower', vm)
  await call('undefine', vm)
  for (const { name } of await world.hypervisor.listVolumes({ signal: AbortSignal.timeout(30_000) }))
    await call('describeVolume', name, { changedAt: 0 })
}

async function changeByHand(world: World): Promise<void> {
  const definition = (xml: string) => xml.replace(/(<memory[^>]*>)\d+/, '$1131072')
  const args = [vm, { autostart: true, definition }]
  await world.call({ port: 'hypervisor', method: 'tamper', args })
}

const backUp: Ask = { verb: 'vm.backup', arguments: { vm, target: 'main' } }

export interface Scenario {
  readonly name: string
  readonly verb: string
  readonly state: State
  readonly asks: readonly Ask[]
  /** Guests do not answer on their port. */
  readonly neverReady?: true
  /** Every so manieth effect instead of each: where one costs seconds of computing. */
  readonly stride?: number
  /** Its first command is cancelled, and how far it had come by then is chance. */
  readonly cancels?: true
  /** Codes of a failure that undoes everything, where the verb rolls back after a crash. */
  readonly mayFail?: readonly string[]
}

/** `of` completes the verb to the name of the scenario. */
function one(
  verb: string,
  state: State,
  args: Record<string, unknown>,
  more: Partial<Scenario> & { of?: string; changes?: false; subject?: CommandSubject } = {}
): Scenario {
  const { of, changes, subject: given, ...rest } = more
  const ask: Ask = { verb, arguments: args, ...(changes !== false && { subject: given ?? subject(9) }) }
  return { name: of === undefined ? verb : `${verb} ${of}`, verb, state, asks: [ask], ...rest }
}

const looking = { changes: false } as const
const rollsBack = { mayFail: ['E_INTERRUPTED'] }
const source = uuid
const target = 'main'

export function scenariosOf(images: Images): readonly Scenario[] {
  return [
    one('vm.provision', 'empty', { specification: specificationOf(images) }),
    one('vm.provision', 'empty', { specification: specificationOf(images, seeded) }, { of: 'with a seed' }),
    one(
      'vm.provision',
      'empty',
      { specification: specificationOf(images, { profile: 'sealed' }) },
      { of: 'encrypted', stride: 18 }
    ),
    one('vm.start', 'stopped', { vm }),
    one('vm.stop', 'running', { vm }),
    one('vm.stop', 'running', { vm, force: true }, { of: 'by force' }),
    one('vm.reboot', 'running', { vm }, rollsBack),
    one('vm.resize', 'running', { vm, cpus: 2, memoryBytes: 512 * 1024 ** 2, rootDiskBytes: 2 * 1024 ** 2 }),
    one('vm.reimage', 'running', { vm, image: images.second }),
    one('vm.teardown', 'running', { vm }),
    one('vm.teardown', 'backedUp', { vm, backups: true }, { of: 'with backups' }),
    one('vm.teardown', 'running', { vm, retainDays: 3_000 }, { of: 'kept' }),
    one('vm.teardown', 'sealed', { vm }, { of: 'encrypted' }),
    one('vm.undelete', 'kept', { vm }),
    {
      name: 'vm.erase',
      verb: 'vm.erase',
      state: 'due',
      asks: [{ verb: 'vm.erase', local: true, arguments: { vm } }]
    },
    one('vm.rekey', 'sealed', { vm }, { stride: 18 }),
    // Its keys are put in where they are known.
    one('vm.adopt-keys', 'keyless', { vm }),
    one('vm.backup', 'running', { vm, target }, looking),
    one('vm.backup', 'backedUp', { vm, target }, { of: 'of what changed', ...looking }),
    one(
      'vm.restore',
      'backedUp',
      { target, source, snapshot: 'latest', ...other },
      { of: 'as another', subject: { ...other, generation: 1 } }
    ),
    one(
      'vm.restore',
      'backedUp',
      { target, source, snapshot: 'latest', vm, uuid, replace: true },
      { of: 'in its place' }
    ),
    one('vm.backup-schedule', 'running', { vm, schedule: { target, everyMs: 3_600_000 } }),
    one('backup.list', 'backedUp', { target }, looking),
    one('backup.verify', 'backedUp', { target, source, snapshot: 'latest' }, looking),
    one('backup.prune', 'backedUpTwice', { target, source, keep: { last: 1 } }, looking),
    one(
      'backup.export',
      'backedUp',
      {
        target,
        source,
        snapshot: 'latest',
        disk: 'root',
        format: 'qcow2',
        path: 'DIRECTORY/exports/web-1.qcow2'
      },
      { ...looking, ...rollsBack }
    ),
    one('vm.state', 'running', { vm }, looking),
    one('vm.specification', 'running', { vm }, looking),
    one(
      'operation.plan',
      'running',
      { verb: 'vm.resize', subject: { vm, uuid }, arguments: { vm, cpus: 2 } },
      looking
    ),
    one('vm.audit', 'running', { vm }, looking),
    one(
      'vm.console',
      'running',
      { vm, uuid, session: '6a1f2b90-55f1-4c35-8a7e-1f0a93a4d1b2', mode: 'write', by: 'ada' },
      { ...looking, ...rollsBack }
    ),
    one('vm.list', 'running', {}, looking),
    one('image.prefetch', 'empty', { image: images.first }, looking),
    {
      name: 'operation.cancel',
      verb: 'operation.cancel',
      state: 'empty',
      neverReady: true,
      cancels: true,
      asks: [
        {
          verb: 'vm.provision',
          subject: subject(1),
          arguments: { specification: specificationOf(images) },
          untilAcknowledged: true
        },
        { verb: 'operation.cancel', arguments: { operation: 'FIRST' } }
      ]
    },
    one('vm.repair', 'drifted', { vm }),
    one('host.facts', 'empty', {}, looking),
    one('host.clean', 'littered', {}, looking),
    {
      name: 'host.drain',
      verb: 'host.drain',
      state: 'empty',
      asks: [
        {
          verb: 'vm.provision',
          subject: subject(1),
          arguments: { specification: specificationOf(images) },
          untilAcknowledged: true
        },
        { verb: 'host.drain' }
      ]
    },
    one('host.resume', 'draining', {}, looking),
    one('host.rotate-key', 'sealed', {}, looking)
  ]
}

/** A VM whose seed needs room in memory. */
export function seededProvision(images: Images, generation: number): Ask {
  return {
    verb: 'vm.provision',
    subject: subject(generation),
    arguments: { specification: specificationOf(images, seeded) }
  }
}

const seeded: Partial<VmSpecification> = {
  seed: { hostname: vm, sshAuthorizedKeys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample ops'] }
}

function specificationOf({ first }: Images, changes: Partial<VmSpecification> = {}): VmSpecification {
  return {
    name: vm,
    uuid,
    profile: 'starter',
    image: first,
    cpus: 1,
    memoryBytes: 256 * 1024 ** 2,
    rootDiskBytes: 1024 ** 2,
    dataDiskBytes: 2 * 1024 ** 2,
    ready: { tcpPort: 22, timeoutMs: 60_000 },
    ...changes
  }
}
