// Every rule of the policy, allowed and refused, through the real dispatcher with signed commands.

import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, describe, it } from 'node:test'
import { approvedBy } from '../../../src/agent/policy/approvals.ts'
import { rateBookName } from '../../../src/agent/policy/host-gate.ts'
import type { VmSpecification } from '../../../src/protocol/vm.ts'
import { createApprover, type TestApprover } from '../../support/approvals.ts'
import { createSigner } from '../../support/signed-commands.ts'
import { type Answer, GateBench } from './gate-bench.ts'

const GiB = 1024 ** 3
const image = (url: string, sha256 = 'a'.repeat(64)) => ({ image: { url, sha256, format: 'raw' } })

function reasonOf(answer: Answer): string {
  if (answer === 'accepted') return answer
  return answer.code === 'E_AUTH' ? String(answer.details?.reason) : answer.code
}

describe('the policy for commands', () => {
  let made: GateBench
  let web: VmSpecification
  let prod: VmSpecification

  before(async () => {
    made = await GateBench.create()
    web = await made.makeVm('web-1')
    prod = await made.makeVm('prod-1')
  })
  after(() => made[Symbol.asyncDispose]())
  afterEach(() => {
    rmSync(made.policyPath, { force: true })
    rmSync(join(made.stateDirectory, rateBookName), { force: true })
  })

  const newVm = (changes: Partial<VmSpecification> = {}) => {
    const specification = made.bench.specification({
      ...{ name: 'new-1', uuid: randomUUID() },
      // Nothing is there, so that nothing is made of what is let through.
      image: { url: 'file:///nowhere/x.img', sha256: 'a'.repeat(64), format: 'raw' },
      ...changes
    })
    return ['vm.provision', specification, { specification }] as const
  }
  const port = (hostPort: number, sources?: string[]) => ({
    network: {
      ports: [{ transport: 'tcp' as const, hostPort, vmPort: 80, ...(sources && { sources }) }]
    }
  })
  const restoreOf = (uuid: string, source: string) => ({ target: 'main', source, snapshot: 'latest', uuid })
  const images = { images: { allow: ['https://images.example.org/ok/*'] } }
  const ports = { limits: { portMappings: { hostPorts: ['20000-20009'], sources: ['198.51.100.0/24'] } } }

  type Command = readonly [
    verb: string,
    vm: () => Pick<VmSpecification, 'name' | 'uuid'> | undefined,
    rest?: Record<string, unknown>
  ]
  const provision =
    (changes?: Partial<VmSpecification>): (() => readonly [string, VmSpecification, object]) =>
    () =>
      newVm(changes)

  const cases: readonly (readonly [
    what: string,
    commands: Record<string, unknown>,
    command: Command | (() => readonly [string, Pick<VmSpecification, 'name' | 'uuid'>, object]),
    reason: string
  ])[] = [
    [
      'a verb that is forbidden',
      { forbid: ['vm.reimage'] },
      ['vm.reimage', () => web, image('file:///x')],
      'forbidden'
    ],
    ['a group of verbs', { forbid: ['vm.*'] }, ['vm.stop', () => web], 'forbidden'],
    ['a verb that only looks', { forbid: ['*'] }, ['vm.list', () => undefined], 'forbidden'],
    ['another verb', { forbid: ['vm.reimage', 'backup.*'] }, ['vm.stop', () => web], 'accepted'],
    [
      'an image of elsewhere',
      images,
      provision({ image: anImage('https://evil.example.org/ok/x') }),
      'image'
    ],
    [
      'dots that lead elsewhere',
      images,
      ['image.prefetch', () => undefined, image('https://images.example.org/ok/../x')],
      'image'
    ],
    [
      'encoded dots',
      images,
      ['image.prefetch', () => undefined, image('https://images.example.org/ok/%2e%2e/x')],
      'image'
    ],
    [
      'a host that only begins so',
      images,
      ['image.prefetch', () => undefined, image('https://images.example.org.evil.net/ok/x')],
      'image'
    ],
    [
      'a login before the host',
      images,
      ['image.prefetch', () => undefined, image('https://images.example.org@evil.net/ok/x')],
      'image'
    ],
    ['a file', images, ['vm.reimage', () => web, image('file:///srv/x.img')], 'image'],
    [
      'a file that is allowed',
      { images: { allow: ['file:///srv/*'] } },
      ['vm.reimage', () => web, image('file:///srv/x.img')],
      'accepted'
    ],
    [
      'a digest that is not named',
      { images: { digests: ['b'.repeat(64)] } },
      ['vm.reimage', () => web, image('file:///x')],
      'image'
    ],
    [
      'a digest that is named',
      { images: { digests: ['a'.repeat(64)] } },
      ['vm.reimage', () => web, image('file:///x')],
      'accepted'
    ],
    ['too many vCPUs', { limits: { vm: { cpusMax: 2 } } }, provision({ cpus: 3 }), 'limit'],
    ['as many vCPUs as are allowed', { limits: { vm: { cpusMax: 2 } } }, provision({ cpus: 2 }), 'accepted'],
    [
      'too much memory',
      { limits: { vm: { memoryBytesMax: GiB } } },
      provision({ memoryBytes: 2 * GiB }),
      'limit'
    ],
    [
      'too much disk, both together',
      { limits: { vm: { diskBytesMax: 3 * GiB } } },
      provision({ rootDiskBytes: 2 * GiB, dataDiskBytes: 2 * GiB }),
      'limit'
    ],
    ['a VM more than the host may have', { limits: { host: { vmsMax: 2 } } }, provision(), 'limit'],
    [
      'more memory than all VMs may have',
      { limits: { host: { memoryBytesMax: GiB } } },
      provision({ memoryBytes: GiB }),
      'limit'
    ],
    [
      'growing beyond the bound',
      { limits: { vm: { cpusMax: 2 } } },
      ['vm.resize', () => web, { cpus: 4 }],
      'limit'
    ],
    [
      'growing within it',
      { limits: { vm: { cpusMax: 2 } } },
      ['vm.resize', () => web, { cpus: 2 }],
      'accepted'
    ],
    [
      'shrinking what is beyond it',
      { limits: { vm: { memoryBytesMax: 64 * 1024 ** 2 } } },
      ['vm.resize', () => web, { memoryBytes: 128 * 1024 ** 2 }],
      'accepted'
    ],
    ['a port of the host that leads to no VM', ports, provision(port(20010, ['198.51.100.7'])), 'limit'],
    ['a port for everybody', ports, provision(port(20001)), 'limit'],
    ['a port for others', ports, provision(port(20001, ['198.51.0.0/16'])), 'limit'],
    ['a port for whom it may be', ports, provision(port(20001, ['198.51.100.0/25'])), 'accepted'],
    ['a teardown at once', { teardown: [{ requireRetainDays: 7 }] }, ['vm.teardown', () => prod], 'retain'],
    [
      'a teardown too soon',
      { teardown: [{ requireRetainDays: 7 }] },
      ['vm.teardown', () => prod, { retainDays: 6 }],
      'retain'
    ],
    [
      'the strictest of two rules',
      { teardown: [{ requireRetainDays: 3 }, { vms: ['prod-*'], requireRetainDays: 9 }] },
      ['vm.teardown', () => prod, { retainDays: 5 }],
      'retain'
    ],
    [
      'backups that have to stay',
      { teardown: [{ keepBackups: true }] },
      ['vm.teardown', () => prod, { backups: true }],
      'retain'
    ],
    // The name of nobody and the UUID of somebody: its keys are found by that.
    [
      'a teardown by the UUID of another',
      { teardown: [{ vms: ['prod-*'], requireRetainDays: 7 }] },
      ['vm.teardown', () => ({ name: 'ghost', uuid: prod.uuid })],
      'retain'
    ],
    [
      'what a half-made VM left',
      { teardown: [{ requireRetainDays: 7 }] },
      ['vm.teardown', () => ({ name: 'ghost', uuid: randomUUID() })],
      'accepted'
    ],
    [
      'a VM of another host under the name of nobody, by the rules for all',
      { rates: [{ verbs: ['vm.teardown'], vms: ['prod-*'], max: 0, per: '1h' }] },
      ['vm.teardown', () => ({ name: 'ghost', uuid: randomUUID() })],
      'rate'
    ],
    [
      'erasing backups of a VM of another host that rules keep',
      { teardown: [{ vms: ['prod-*'], keepBackups: true }] },
      ['vm.teardown', () => ({ name: 'ghost', uuid: randomUUID() }), { backups: true }],
      'retain'
    ],
    [
      'restoring over a VM of another host',
      { rates: [{ verbs: ['vm.restore'], vms: ['prod-*'], max: 0, per: '1h' }] },
      () => {
        const vm = { name: 'ghost', uuid: randomUUID() }
        return ['vm.restore', vm, { ...restoreOf(vm.uuid, web.uuid), replace: true }]
      },
      'rate'
    ],
    [
      'a new VM of backups of its own UUID, whose they are is not known',
      { rates: [{ verbs: ['vm.restore'], vms: ['prod-*'], max: 0, per: '1h' }] },
      () => {
        const vm = { name: 'ghost', uuid: randomUUID() }
        return ['vm.restore', vm, restoreOf(vm.uuid, vm.uuid)]
      },
      'rate'
    ],
    [
      'a new VM under rules for others',
      { rates: [{ verbs: ['vm.restore', 'vm.provision'], vms: ['prod-*'], max: 0, per: '1h' }] },
      provision(),
      'accepted'
    ],
    [
      'a rate of none',
      { rates: [{ verbs: ['vm.stop'], max: 0, per: '1h' }] },
      ['vm.stop', () => web],
      'rate'
    ],
    [
      'a rate of other VMs',
      { rates: [{ verbs: ['vm.stop'], vms: ['prod-*'], max: 0, per: '1h' }] },
      ['vm.stop', () => web],
      'accepted'
    ]
  ]
  for (const [what, commands, command, reason] of cases)
    it(`${reason === 'accepted' ? 'allows' : 'refuses'} ${what}`, async () => {
      made.policy(commands)
      const [verb, vm, rest] =
        typeof command === 'function' ? command() : [command[0], command[1](), command[2] ?? {}]
      const forecast = await made.forecast(verb, vm, rest as Record<string, unknown>)
      const answer = await made.ask(verb, vm, rest as Record<string, unknown>)
      assert.equal(reasonOf(answer), reason, JSON.stringify(answer))
      assert.equal(forecast.verdict, reason === 'accepted' ? 'allowed' : 'refused', JSON.stringify(forecast))
      if (answer !== 'accepted') assert.match(answer.message, /policy of host host-1/)
      await made.idle()
    })

  it('finds no fault in a new VM of a backup under rules for others', async () => {
    made.policy({ rates: [{ verbs: ['vm.restore'], vms: ['prod-*'], max: 0, per: '1h' }] })
    const vm = { name: 'new-2', uuid: randomUUID() }
    const answer = await made.ask('vm.restore', vm, restoreOf(vm.uuid, web.uuid))
    // The host has no repository: the verb says that, after the gate.
    assert.match(JSON.stringify(answer), /backup/)
    assert.notEqual(reasonOf(answer), 'rate')
  })

  describe('rates', () => {
    const rates = [{ verbs: ['vm.stop', 'vm.start'], max: 2, per: '1h' }]
    const stop = () => made.ask('vm.stop', web)

    it('let so many through and no more, until the time is over', async () => {
      await made.restart()
      made.policy({ rates })
      // A plan is looked at, and counts for nothing.
      const verdict = async () => (await made.forecast('vm.stop', web)).verdict
      assert.deepEqual([await verdict(), await verdict(), await verdict()], ['allowed', 'allowed', 'allowed'])
      assert.deepEqual([await stop(), await stop(), reasonOf(await stop())], ['accepted', 'accepted', 'rate'])
      assert.equal(await verdict(), 'refused')
      made.aheadMs += 3_601_000
      assert.equal(await stop(), 'accepted')
    })

    it('let no more through of many that come at once', async () => {
      await made.restart()
      made.policy({ rates })
      const answers = await Promise.all(Array.from({ length: 20 }, stop))
      assert.equal(answers.filter((answer) => answer === 'accepted').length, 2)
      assert.deepEqual([...new Set(answers.map(reasonOf))].sort(), ['accepted', 'rate'])
    })

    it('are remembered over a restart, also where the database was lost', async () => {
      await made.restart()
      made.policy({ rates })
      await stop()
      await stop()
      await made.restart({ lost: true })
      assert.equal(reasonOf(await stop()), 'rate')
      assert.equal(made.fault, undefined)
    })

    it('count what was accepted, and nothing that was refused after all', async () => {
      await made.restart()
      made.policy({ rates })
      const missing = { name: 'none-1', uuid: randomUUID() }
      for (let index = 0; index < 5; index++)
        assert.equal(reasonOf(await made.ask('vm.stop', missing)), 'E_NOT_FOUND')
      await made.restart()
      assert.deepEqual([await stop(), await stop(), reasonOf(await stop())], ['accepted', 'accepted', 'rate'])
    })

    it('do not count the same command twice', async () => {
      await made.restart()
      made.policy({ rates })
      const jws = await made.signer.sign(made.claims('vm.stop', web))
      for (let index = 0; index < 4; index++) assert.equal(await made.send(jws), 'accepted')
      assert.equal(await stop(), 'accepted')
    })

    it('have a command come again where libvirt takes too long to say which VMs there are', async () => {
      await made.restart()
      made.policy({ rates: [{ verbs: ['vm.teardown'], vms: ['prod-*'], max: 1, per: '1h' }] })
      made.bench.hypervisor.failNext('listVms', new DOMException('aborted', 'TimeoutError'))
      const answer = await made.ask('vm.teardown', web)
      assert.equal(reasonOf(answer), 'E_UNAVAILABLE')
    })

    it('let the same command through that was counted and not recorded, and no other under its id', async () => {
      await made.restart()
      made.policy({ rates: [{ verbs: ['host.clean'], max: 1, per: '1h' }] })
      const claims = made.claims('host.clean', undefined)
      const jws = await made.signer.sign(claims)
      assert.equal(await made.send(jws), 'accepted')
      await made.restart({ lost: true })
      const other = await made.signer.sign({ ...claims, expiresAt: claims.expiresAt + 1 })
      assert.equal(reasonOf(await made.send(other)), 'rate')
      assert.equal(await made.send(jws), 'accepted')
      assert.equal(reasonOf(await made.ask('host.clean', undefined)), 'rate')
    })

    it('forget a line that a crash cut short, and refuse where an earlier one is damaged', async () => {
      await made.restart()
      made.policy({ rates })
      await stop()
      const path = join(made.stateDirectory, rateBookName)
      appendFileSync(path, '{"counted":{"id":"x","at":1')
      await made.restart()
      assert.equal(await stop(), 'accepted')
      await made.restart()
      assert.equal(reasonOf(await stop()), 'rate')
      writeFileSync(path, `not this\n${readFileSync(path, 'utf8')}`)
      await made.restart()
      assert.match(String(made.fault), /command-rates\.jsonl is damaged/)
      const refusal = await stop()
      assert.equal(reasonOf(refusal), 'rate')
      assert.match(JSON.stringify(refusal), /remove the file and restart the agent/)
      assert.equal(await made.ask('image.prefetch', undefined, image('file:///x')), 'accepted')
    })

    it('are kept in a file of bounded length', async () => {
      await made.restart()
      made.policy({ rates: [{ verbs: ['vm.list'], max: 10_000, per: '1s' }] })
      const path = join(made.stateDirectory, rateBookName)
      for (let index = 0; index < 40; index++) {
        made.aheadMs += 2_000
        assert.equal(await made.ask('vm.list', undefined), 'accepted')
        if (index > 0) continue
        const line = readFileSync(path, 'utf8')
        writeFileSync(path, line.repeat(1_100))
        await made.restart()
      }
      assert.ok(readFileSync(path, 'utf8').split('\n').length < 100)
    })
  })

  describe('approvals', () => {
    let alice: TestApprover
    let bob: TestApprover
    before(async () => {
      alice = await createApprover('alice')
      bob = await createApprover('bob')
    })
    const policy = (changes: Record<string, unknown> = {}, approvers: Record<string, unknown> = {}) =>
      made.policy({
        approvals: {
          approvers: { alice: { jwk: alice.jwk }, bob: { jwk: bob.jwk }, ...approvers },
          require: [{ verbs: ['vm.stop', 'backup.prune'], ...changes }]
        }
      })
    const stop = (vm = prod) => made.signer.sign(made.claims('vm.stop', vm))

    it('are asked for by name, and one is enough', async () => {
      policy()
      assert.deepEqual(await made.forecast('vm.stop', prod), {
        verdict: 'approval',
        text: 'approvals of 1 of alice, bob'
      })
      const jws = await stop()
      const refusal = await made.send(jws)
      assert.ok(refusal !== 'accepted')
      assert.deepEqual(refusal.details, {
        ...{ reason: 'approval', approvers: 'alice, bob', required: 1, missing: 1 }
      })
      assert.match(
        refusal.message,
        /vm\.stop of VM prod-1, 1 missing: of alice, bob.*hostlet approve [0-9a-f-]{36} --key/
      )
      assert.equal(await made.send(jws, [await bob.approve(jws)]), 'accepted')
    })

    it('are asked for of some VMs only, whichever way a command names them', async () => {
      policy({ vms: ['prod-*'] })
      assert.equal(await made.send(await stop(web)), 'accepted')
      assert.equal(reasonOf(await made.send(await stop(prod))), 'approval')
      const prune = (source: string) =>
        made.ask('backup.prune', undefined, { target: 'main', source, keep: { last: 1 } })
      assert.equal(reasonOf(await prune(prod.uuid)), 'approval')
      // Nobody here knows whose backups these are.
      assert.equal(reasonOf(await prune(randomUUID())), 'approval')
      assert.match(
        String(await prune(web.uuid).then((answer) => answer !== 'accepted' && answer.message)),
        /no repository|no backups/
      )
    })

    it('count once a person', async () => {
      policy({ count: 2 })
      const jws = await stop()
      const twice = [await alice.approve(jws), await alice.approve(jws, { issuedAt: made.clock.now() - 5 })]
      const refusal = await made.send(jws, twice)
      assert.equal(reasonOf(refusal), 'approval')
      assert.match(JSON.stringify(refusal), /1 missing: of bob\./)
      assert.equal(await made.send(jws, [...twice, await bob.approve(jws)]), 'accepted')
    })

    it('count only of whom the rule names', async () => {
      policy({ of: ['bob'] })
      const jws = await stop()
      assert.equal(reasonOf(await made.send(jws, [await alice.approve(jws)])), 'approval')
      assert.equal(await made.send(jws, [await bob.approve(jws)]), 'accepted')
    })

    const bad: readonly (readonly [what: string, approve: (jws: string) => Promise<string>, why: RegExp])[] =
      [
        ['of another command', async () => alice.approve(await stop()), /alice is for command/],
        ['moved to another command', async (jws) => alice.approve(await stop(), idOf(jws)), /other content/],
        ['of another host', (jws) => alice.approve(jws, { host: 'host-2' }), /alice is for host host-2/],
        ['of another verb', (jws) => alice.approve(jws, { verb: 'vm.start' }), /other content/],
        ['of another VM', (jws) => alice.approve(jws, { vm: 'web-1' }), /other content/],
        [
          'that has expired',
          (jws) =>
            alice.approve(jws, {
              issuedAt: made.clock.now() - 900_000,
              expiresAt: made.clock.now() - 120_000
            }),
          /alice expired 12\d s ago/
        ],
        [
          'of the future',
          (jws) =>
            alice.approve(jws, {
              issuedAt: made.clock.now() + 300_000,
              expiresAt: made.clock.now() + 600_000
            }),
          /made in the future/
        ],
        [
          'that is good for ever',
          (jws) => alice.approve(jws, { expiresAt: made.clock.now() + 365 * 86_400_000 }),
          /valid for too long/
        ],
        [
          'with another key',
          async (jws) => (await createApprover('alice')).approve(jws),
          /not signed with the key/
        ],
        [
          'in the name of another',
          (jws) => alice.approve(jws, { approver: 'bob' }),
          /not signed with the key.*of bob/
        ],
        ['of nobody', async (jws) => (await createApprover('eve')).approve(jws), /no approver eve/],
        [
          'of a prototype',
          (jws) => alice.approve(jws, { approver: 'constructor' }),
          /no approver constructor/
        ],
        ['of another type', (jws) => alice.approve(jws, {}, { typ: 'hostlet-command+jwt' }), /no approval/],
        ['with a header that says more', (jws) => alice.approve(jws, {}, { cty: 'x' }), /no approval/],
        [
          'that the command key signed',
          (jws) => made.signer.sign(claimsFor(jws), { typ: 'hostlet-approval+jwt' }),
          /not signed with the key/
        ],
        ['that is the command itself', async (jws) => jws, /none/],
        ['that is nothing', async () => 'a.b.c', /none/]
      ]
    for (const [what, approve, why] of bad)
      it(`refuse one ${what}, and say so`, async () => {
        policy()
        const jws = await stop()
        const refusal = await made.send(jws, [await approve(jws)])
        assert.equal(reasonOf(refusal), 'approval', JSON.stringify(refusal))
        assert.match(JSON.stringify(refusal), why)
        // A good one beside it counts all the same.
        assert.equal(await made.send(jws, [await approve(jws), await bob.approve(jws)]), 'accepted')
      })

    it('of the key that signs commands count for nothing, also where the policy names it', async () => {
      const { kid: _kid, ...jwk } = made.signer.publicKey
      policy({ of: ['carol'] }, { carol: { jwk } })
      const jws = await stop()
      const claims = { ...claimsFor(jws), approver: 'carol' }
      const forged = await made.signer.sign(claims, { typ: 'hostlet-approval+jwt' })
      const refusal = await made.send(jws, [forged])
      assert.equal(reasonOf(refusal), 'approval')
      assert.match(JSON.stringify(refusal), /the key of carol is one that signs commands/)
    })

    it('are told to the trail where they were wanted and are good, and not by what else came along', async () => {
      const junk = await (await createApprover('alice')).approve(await stop())
      const approversOf = async (approvals: (jws: string) => Promise<string[]>) => {
        const jws = await stop()
        assert.equal(await made.send(jws, await approvals(jws)), 'accepted')
        const note = made.notes.findLast(({ kind }) => kind === 'accepted')
        return note?.kind === 'accepted' ? note.approvers : undefined
      }
      policy()
      assert.deepEqual(await approversOf(async (jws) => [junk, await bob.approve(jws)]), ['bob'])
      policy({ vms: ['web-*'] })
      assert.deepEqual(await approversOf(async (jws) => [junk, await alice.approve(jws)]), [])
    })

    it('of one key count once and those of the command key not at all, however these are spelled', async () => {
      const path = join(made.bench.directory, 'policy', 'bob.pub')
      const other = { ...alice.jwk, x: otherSpelling(alice.jwk.x) }
      writeFileSync(path, JSON.stringify(other), { mode: 0o600 })
      policy({ count: 2 }, { bob: { file: path } })
      const jws = await stop()
      const approvals = [await alice.approve(jws), await alice.approve(jws, { approver: 'bob' })]
      const refusal = await made.send(jws, approvals)
      assert.match(JSON.stringify(refusal), /bob\.pub: is not the JWK of a public Ed25519 key/)
      const payload = Buffer.from(jws.split('.')[1] ?? '', 'base64url')
      const digest = createHash('sha256').update(payload).digest('hex')
      const command = { claims: JSON.parse(payload.toString()), digest, signer: '', approvals }
      const context = { now: made.clock.now(), policyPath: made.policyPath, commandKeys: [other] }
      const { by, faults } = await approvedBy(
        command,
        { approvers: { alice: { jwk: alice.jwk } }, require: [] },
        context
      )
      assert.deepEqual([...by], [])
      assert.match(faults.join(), /the key of alice is one that signs commands/)
    })

    it('command nothing: a command that an approver signed is none', async () => {
      policy()
      const pretender = await createSigner(made.signer.publicKey.kid)
      const jws = await pretender.sign(made.claims('vm.stop', prod))
      assert.equal(reasonOf(await made.sendUnknown(jws, [await alice.approve(jws)])), 'signature')
    })

    it('read the key of an approver out of a file of root', async () => {
      const path = join(made.bench.directory, 'policy', 'alice.pub')
      made.policy({
        approvals: { approvers: { alice: { file: path } }, require: [{ verbs: ['vm.stop'] }] }
      })
      const jws = await stop()
      writeFileSync(path, JSON.stringify(alice.jwk), { mode: 0o600 })
      assert.equal(await made.send(jws, [await alice.approve(jws)]), 'accepted')
      writeFileSync(path, JSON.stringify(bob.jwk), { mode: 0o600 })
      const next = await stop()
      assert.equal(reasonOf(await made.send(next, [await alice.approve(next)])), 'approval')
    })
  })

  describe('a policy that cannot be relied on', () => {
    const broken: readonly (readonly [what: string, write: () => void, says: RegExp])[] = [
      [
        'has a fault',
        () => made.write('commands:\n  forbid: [vm.stop]\n  rate: []\n'),
        /policy\.yaml:3:3: .*did you mean "rates"/
      ],
      ['is no YAML', () => made.write('commands: [\n'), /policy\.yaml:\d+:\d+: expected valid YAML/],
      ['may be written by others', () => made.write('{}', 0o666), /can write it \("chmod/]
    ]
    for (const [what, write, says] of broken)
      it(`since it ${what}, forbids what changes anything and lets look`, async () => {
        write()
        for (const [verb, vm, rest] of [
          ['vm.stop', web, {}],
          ['image.prefetch', undefined, image('file:///x')],
          ['host.rotate-key', undefined, {}],
          ['host.resume', undefined, {}],
          ['operation.cancel', undefined, { operation: '7d5ec2a4-4e0c-4d0f-8a9b-2f1c6e0a9b11' }]
        ] as const) {
          const refusal = await made.ask(verb, vm, rest)
          assert.equal(reasonOf(refusal), 'policy', verb)
          assert.match(JSON.stringify(refusal).replaceAll('\\"', '"'), says)
        }
        assert.equal(await made.ask('vm.list', undefined), 'accepted')
        assert.match(String(made.fault), says)
      })

    it('is read anew as soon as it is mended', async () => {
      made.write('commands: [\n')
      assert.equal(reasonOf(await made.ask('vm.stop', web)), 'policy')
      made.policy({ forbid: ['vm.reimage'] })
      assert.equal(await made.ask('vm.stop', web), 'accepted')
      assert.equal(made.fault, undefined)
    })

    it('makes no VM of a command that was accepted before', async () => {
      made.policy({ limits: { vm: { cpusMax: 2 } } })
      const specification = made.bench.specification({ name: 'late-1', uuid: randomUUID(), cpus: 2 })
      const claim = () =>
        made.bench.host.placements.claim(
          { specification, generation: 1, seedPath: null },
          { signal: AbortSignal.timeout(5_000) }
        )
      made.policy({ limits: { vm: { cpusMax: 1 } } })
      await assert.rejects(claim(), { code: 'E_AUTH', message: /2 vCPUs, the policy allows 1/ })
      made.write('commands: [\n')
      await assert.rejects(claim(), { code: 'E_AUTH', message: /cannot be relied on.*policy\.yaml/ })
    })
  })

  it('obeys everything that is signed where there is no policy', async () => {
    assert.equal(await made.ask('vm.stop', web), 'accepted')
    assert.ok(!existsSync(join(made.stateDirectory, rateBookName)))
  })
})

function anImage(url: string) {
  return { url, sha256: 'a'.repeat(64), format: 'raw' as const }
}

function idOf(jws: string): { command: string } {
  return { command: JSON.parse(Buffer.from(jws.split('.')[1] ?? '', 'base64url').toString()).id }
}

/** The same bytes: two bits of the last character are spare. */
function otherSpelling(x: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  return `${x.slice(0, -1)}${alphabet[alphabet.indexOf(x.at(-1) ?? '') + 1]}`
}

/** What an approval of it would say. */
function claimsFor(jws: string) {
  const { id, audience, verb, subject, issuedAt, expiresAt } = JSON.parse(
    Buffer.from(jws.split('.')[1] ?? '', 'base64url').toString()
  )
  return {
    ...{ command: id, digest: 'a'.repeat(64), host: audience, verb, vm: subject.vm },
    ...{ approver: 'alice', issuedAt, expiresAt }
  }
}
