// Plans: what each verb would do is told, nothing is changed by asking, and what is told is what then comes.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { verbs } from '../../../src/agent/verbs/registry.ts'
import type { Plan } from '../../../src/protocol/plan.ts'
import { type Bench, makeBench, succeed } from '../verbs/bench.ts'
import { type PlanOptions, planned as plannedOn } from './planned.ts'

const uuid = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'
const subject = { vm: 'web-1', uuid }
const wait = { signal: AbortSignal.timeout(60_000) }
const mebibyte = 1024 ** 2

/** Calls that change nothing. */
const looks =
  /^(draft|domainUses|examine|facts|findVm|findVolume|inspect|list\w+|surveyVolumes|counters)( |$)/

function planned(
  { host }: Bench,
  verb: string,
  args: Record<string, unknown>,
  options: Partial<PlanOptions> = {}
): Promise<Plan> {
  return plannedOn(host, verb, args, { about: subject, ...options })
}

async function stateOf({ hypervisor, nft, leftovers }: Bench): Promise<unknown> {
  return {
    vms: await hypervisor.listVms(wait),
    volumes: await hypervisor.listVolumes(wait),
    networks: await hypervisor.listNetworks(wait),
    leftovers: await leftovers(),
    applied: nft.applied,
    secrets: [...hypervisor.secrets.keys()]
  }
}

async function benchWithVm(changes = {}): Promise<Bench> {
  const bench = await makeBench()
  const specification = bench.specification({ dataDiskBytes: mebibyte, ...changes })
  await succeed(bench.host, 'vm.provision', { specification })
  return bench
}

describe('plans', () => {
  it('change nothing, whatever verb they are of, and fit their schema', async () => {
    await using bench = await benchWithVm()
    const other = bench.specification({ name: 'web-2', uuid: '7d5ec2a4-4e0c-4d0f-8a9b-2f1c6e0a9b11' })
    const target = 'main'
    const snapshot = '0199c0de-0000-7000-8000-00000000000a'
    const of: Readonly<Record<string, Record<string, unknown>>> = {
      'vm.provision': { specification: other },
      'vm.restore': { target, source: uuid, snapshot, vm: 'web-1', uuid, replace: true },
      'vm.reimage': { vm: 'web-1', image: bench.image },
      'vm.resize': { vm: 'web-1', cpus: 2 },
      'vm.backup': { vm: 'web-1', target },
      'vm.backup-schedule': { vm: 'web-1', schedule: { target, everyMs: 3_600_000 } },
      'vm.adopt-keys': { vm: 'web-1', keys: [] },
      'vm.console': { vm: 'web-1', uuid, session: snapshot, mode: 'read', by: 'ada' },
      'backup.list': { target },
      'backup.verify': { target, source: uuid, snapshot },
      'backup.prune': { target, source: uuid, keep: { last: 1 } },
      'backup.export': { target, source: uuid, snapshot, disk: 'root', format: 'raw', path: '/srv/x.raw' },
      'operation.cancel': { operation: snapshot },
      'operation.plan': { verb: 'vm.list', arguments: {} },
      'image.prefetch': { image: bench.image },
      'host.drain': {},
      'host.resume': {},
      'host.facts': {},
      'host.clean': {},
      'host.rotate-key': {},
      'vm.list': {}
    }
    for (const { name } of verbs) {
      const before = await stateOf(bench)
      const made = bench.hypervisor.calls.length
      const about = name === 'vm.provision' ? { vm: 'web-2', uuid: other.uuid } : subject
      const asked = of[name] ?? { vm: 'web-1' }
      if (name === 'vm.adopt-keys') await assert.rejects(planned(bench, name, asked, { about }))
      else assert.equal((await planned(bench, name, asked, { about })).verb, name)
      assert.deepEqual(
        bench.hypervisor.calls.slice(made).filter((call) => !looks.test(call)),
        [],
        name
      )
      assert.deepEqual(await stateOf(bench), before, name)
    }
  })

  it('of a provision tells address, room, rules, ports and the very definition that is then made', async () => {
    await using bench = await makeBench()
    const specification = bench.specification({
      dataDiskBytes: mebibyte,
      seed: { hostname: 'web-1', sshAuthorizedKeys: ['ssh-ed25519 AAAA me'] },
      network: {
        egress: { mode: 'web' },
        ports: [{ transport: 'tcp', hostPort: 20_080, vmPort: 80, sources: ['203.0.113.0/24'] }]
      }
    })
    const plan = await planned(bench, 'vm.provision', { specification })
    assert.equal(plan.refusal, undefined)
    assert.equal(plan.changes, true)
    assert.deepEqual(plan.generation, { now: 0, next: 1 })
    assert.ok(plan.steps.includes('start') && plan.steps.includes('fetch the image'))
    assert.deepEqual(plan.ports, { added: ['tcp 20080 -> 10.90.0.2:80 for 203.0.113.0/24'], removed: [] })
    assert.ok(plan.firewall?.added.includes('reaches TCP ports 80 and 443 outside'))
    assert.ok((plan.firewall?.rulesAdded ?? 0) > 10)
    assert.equal(plan.firewall?.rulesRemoved, 0)
    const needs = Object.fromEntries((plan.needs ?? []).map(({ what, needed }) => [what, needed]))
    assert.equal(needs.memory, specification.memoryBytes)
    assert.equal(needs['disk, once it is full'], 2 * mebibyte)
    assert.match(plan.remarks?.[0] ?? '', /The image is not on the host/)
    assert.match(plan.domain?.diff ?? '', /^--- \/dev\/null\n\+\+\+ web-1/)
    await succeed(bench.host, 'vm.provision', { specification }, { subject: { ...subject, generation: 1 } })
    const made = await bench.hypervisor.draft({ kind: 'removal', name: 'web-1' }, wait)
    // The drive of the seed has a medium in the hypervisor in memory, which ejects nothing.
    const withoutMedium = made.before?.replace(/ *<source file="[^"]*seeds[^\n]*\n/, '')
    assert.equal(plan.domain?.after, withoutMedium)
  })

  it('of a resize tell what differs, when it comes, and nothing where nothing would', async () => {
    await using bench = await benchWithVm()
    const plan = await planned(bench, 'vm.resize', { vm: 'web-1', cpus: 2, rootDiskBytes: 3 * mebibyte })
    assert.match(plan.domain?.diff ?? '', /^-.*<vcpu.*>1<\/vcpu>$/m)
    assert.match(plan.domain?.diff ?? '', /^\+.*<vcpu.*>2<\/vcpu>$/m)
    assert.deepEqual(plan.remarks, ['cpus: from its next start on.', 'disk: at once.'])
    assert.equal(plan.needs?.find(({ what }) => what.startsWith('disk'))?.needed, 2 * mebibyte)
    const changed = plan.domain?.diff.split('\n').filter((line) => /^[-+] /.test(line)) ?? []
    assert.ok(changed.length <= 8, changed.join('\n'))
    const same = await planned(bench, 'vm.resize', { vm: 'web-1', cpus: 1 })
    assert.deepEqual([same.changes, same.domain], [false, undefined])
    const before = await bench.hypervisor.findVm('web-1', wait)
    await succeed(
      bench.host,
      'vm.resize',
      { vm: 'web-1', cpus: 2, rootDiskBytes: 3 * mebibyte },
      {
        subject: { ...subject, generation: (before?.generation ?? 0) + 1 }
      }
    )
    const { before: now } = await bench.hypervisor.draft({ kind: 'removal', name: 'web-1' }, wait)
    assert.equal(now, plan.domain?.after)
  })

  it('tell why a command would be refused, and do not foresee what would not come', async () => {
    await using bench = await benchWithVm({ rootDiskBytes: 2 * mebibyte })
    const smaller = await planned(bench, 'vm.resize', { vm: 'web-1', rootDiskBytes: mebibyte })
    assert.equal(smaller.refusal?.code, 'E_BAD_REQUEST')
    const taken = await planned(bench, 'vm.provision', { specification: bench.specification() })
    assert.equal(taken.refusal?.code, 'E_CONFLICT')
    assert.equal(taken.domain, undefined)
    const absent = await planned(bench, 'vm.start', { vm: 'web-9' }, { about: { vm: 'web-9', uuid } })
    assert.equal(absent.refusal?.code, 'E_NOT_FOUND')
    const running = await planned(bench, 'vm.rekey', { vm: 'web-1' })
    assert.equal(running.refusal?.code, 'E_CONFLICT')
    const huge = bench.specification({
      name: 'web-2',
      uuid: '7d5ec2a4-4e0c-4d0f-8a9b-2f1c6e0a9b11',
      memoryBytes: 8 * 1024 ** 4
    })
    const full = await planned(
      bench,
      'vm.provision',
      { specification: huge },
      { about: { vm: 'web-2', uuid: huge.uuid } }
    )
    assert.equal(full.refusal?.code, 'E_CAPACITY')
  })

  it('of a teardown tell which disks and rules go, and of one that keeps the VM until when', async () => {
    await using bench = await benchWithVm()
    const gone = await planned(bench, 'vm.teardown', { vm: 'web-1' })
    assert.equal(gone.domain?.after, undefined)
    assert.match(gone.domain?.diff ?? '', /\+\+\+ \/dev\/null/)
    assert.ok((gone.firewall?.rulesRemoved ?? 0) > 10)
    assert.equal(gone.remarks?.filter((line) => line.startsWith('Disk ')).length, 2)
    assert.match(gone.remarks?.join('\n') ?? '', /would be removed: [\d.]+ (bytes|KiB|MiB) come free/)
    assert.ok(!gone.steps.some((step) => step.includes('backups where')))
    const all = await planned(bench, 'vm.teardown', { vm: 'web-1', backups: true })
    assert.ok(all.steps.includes('erase its backups where that was asked'))
    const kept = await planned(bench, 'vm.teardown', { vm: 'web-1', retainDays: 7 })
    assert.match(kept.domain?.diff ?? '', /\+.*"retained"/)
    assert.match(kept.remarks?.[0] ?? '', /switched off and kept until/)
  })

  it('of power, schedule and image tell what would be otherwise', async () => {
    await using bench = await benchWithVm()
    assert.equal((await planned(bench, 'vm.start', { vm: 'web-1' })).changes, false)
    const stop = await planned(bench, 'vm.stop', { vm: 'web-1', force: true })
    assert.match(stop.domain?.diff ?? '', /\+ *"wanted": "stopped"/)
    assert.match(stop.remarks?.[0] ?? '', /power is cut at once/)
    const schedule = { target: 'main', everyMs: 3_600_000 }
    await bench.hypervisor.annotate('web-1', { backupSchedule: schedule }, wait)
    const off = await planned(bench, 'vm.backup-schedule', { vm: 'web-1', schedule: null })
    assert.match(off.domain?.diff ?? '', /- *"everyMs": 3600000/)
    const reimage = await planned(bench, 'vm.reimage', {
      vm: 'web-1',
      image: { ...bench.image, sha256: 'b'.repeat(64) }
    })
    const changed = (reimage.domain?.diff ?? '').split('\n').filter((line) => /^[-+] .*<source/.test(line))
    // The root disk and the base below it, as they are and as they would be.
    assert.equal(changed.length, 4, changed.join('\n'))
  })

  it('carry what the policy of the host would say', async () => {
    await using bench = await benchWithVm()
    const policy = { verdict: 'approval', text: 'approvals of 1 of alice' } as const
    const plan = await planned(bench, 'vm.stop', { vm: 'web-1' }, { policy })
    assert.deepEqual(plan.policy, policy)
    assert.equal(plan.changes, true)
  })
})
