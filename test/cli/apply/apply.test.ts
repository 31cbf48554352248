// hostlet apply, diff and vm export, against a real scheduler and a whole agent with its hypervisor in memory.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { TrustFleet } from '../../support/trust-fleet.ts'

describe('hostlet apply', { timeout: 180_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-apply-'))
  let fleet: TrustFleet
  let digest = ''

  before(async () => {
    fleet = await TrustFleet.open(directory, 1)
    const { stdout } = await fleet.hostlet('vm', 'export', 'vm-kvm-1')
    digest = /^sha256: (.*)$/m.exec(stdout)?.[1] ?? ''
  })

  after(async () => {
    await fleet[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true })
  })

  function file(name: string, ...documents: readonly string[]): string {
    const path = join(directory, name)
    writeFileSync(path, documents.join('---\n'))
    return path
  }

  const made = (vm: string, more = '') =>
    `vm: ${vm}\nhost: kvm-1\nimage: file://${directory}/small.img\nsha256: ${digest}\nformat: raw\nmemory: 64MiB\ndisk: 1MiB\n${more}`

  it('has nothing to do with what was exported', async () => {
    const { stdout, status } = await fleet.hostlet('vm', 'export', 'vm-kvm-1')
    assert.equal(status, 0)
    const again = await fleet.hostlet('apply', '-f', file('exported.yaml', stdout))
    assert.equal(again.status, 0, again.stderr)
    assert.match(again.stdout, /as it is wanted\nNothing to do: every VM is as it is wanted\./)
    const shown = await fleet.hostlet('vm', 'export', 'vm-kvm-1', '-o', 'json')
    assert.equal(JSON.parse(shown.stdout).vm, 'vm-kvm-1')
  })

  it('shows what would change with status 2 and changes nothing, then does it, then has nothing to do', async () => {
    const vms = join(directory, 'vms')
    mkdirSync(vms)
    writeFileSync(join(vms, 'one.yaml'), made('web-1', 'ports: [20080:80]\negress: none\n'))
    writeFileSync(
      join(vms, 'two.yml'),
      ['vm: vm-kvm-1\ncpus: 2\n', made('web-2', 'wanted: stopped\n')].join('---\n')
    )
    const calls = fleet.hosts[0]?.hypervisor.calls.filter((call) => call.startsWith('define')).length
    const diff = await fleet.hostlet('diff', '-f', vms)
    assert.equal(diff.status, 2, diff.stderr)
    assert.match(diff.stdout, /VM vm-kvm-1 on kvm-1 .*two\.yml:1\)\n {2}cpus: 1 -> 2\n/)
    assert.match(diff.stdout, /create: host kvm-1 would take it/)
    assert.match(diff.stdout, /3 would be changed\.$/m)
    assert.equal(fleet.hosts[0]?.hypervisor.calls.filter((call) => call.startsWith('define')).length, calls)
    const applied = await fleet.hostlet('apply', '-f', vms, '-o', 'json')
    assert.equal(applied.status, 0, applied.stderr)
    const { vms: outcomes } = JSON.parse(applied.stdout)
    assert.deepEqual(
      outcomes.map(({ vm, operations }: { vm: string; operations: { kind: string }[] }) => [
        vm,
        operations.map(({ kind }) => kind)
      ]),
      [
        ['web-1', ['create']],
        ['vm-kvm-1', ['resize']],
        ['web-2', ['create', 'stop']]
      ]
    )
    assert.match(applied.stderr, /vm\.provision web-1: /)
    assert.deepEqual(
      outcomes.map(({ remarks }: { remarks: string[] }) => remarks),
      [
        [],
        ['VM vm-kvm-1: cpus: from its next start on: hostlet vm stop vm-kvm-1 && hostlet vm start vm-kvm-1'],
        []
      ]
    )
    const again = await fleet.hostlet('apply', '-f', vms)
    assert.equal(again.status, 0, again.stderr)
    assert.match(again.stdout, /Nothing to do/)
    const none = await fleet.hostlet('diff', '-f', vms)
    assert.equal(none.status, 0)
  })

  it('says what a VM that runs has from its next start on alone', async () => {
    const file3 = file('three.yaml', 'vm: vm-kvm-1\ncpus: 3\n')
    const { status, stdout } = await fleet.hostlet('apply', '-f', file3)
    assert.equal(status, 0)
    assert.match(stdout, /^VM vm-kvm-1: cpus: from its next start on: hostlet vm stop .*\n1 changed\.$/m)
    assert.equal((await fleet.hostlet('vm', 'stop', 'vm-kvm-1')).status, 0)
    const off = await fleet.hostlet('apply', '-f', file('four.yaml', 'vm: vm-kvm-1\ncpus: 2\n'))
    assert.doesNotMatch(off.stdout, /next start/)
    assert.equal((await fleet.hostlet('vm', 'start', 'vm-kvm-1')).status, 0)
  })

  it('tells what failed for each VM, goes on with the others, and ends with 1', async () => {
    const path = file(
      'mixed.yaml',
      'vm: vm-kvm-1\ndisk: 512KiB\n',
      made('web-5', 'backup: {target: nowhere, every: 6h}\n'),
      made('web-6')
    )
    const { status, stdout, stderr } = await fleet.hostlet('apply', '-f', path)
    assert.equal(status, 1, stderr)
    assert.match(stdout, /disk: 1MiB -> 512KiB\n {4}cannot be: disks only grow/)
    assert.match(stderr, /web-5: E_AUTH: vm\.backup-schedule web-5/)
    assert.match(stdout, /1 changed, 2 not done, or not all of it: vm-kvm-1, web-5\.$/m)
    assert.equal((await fleet.hostlet('vm', 'show', 'web-6')).status, 0)
    const diff = await fleet.hostlet('diff', '-f', path)
    assert.equal(diff.status, 1)
    assert.match(diff.stdout, /schedule: host kvm-1 would refuse it: E_AUTH/)
  })

  it('has one meaning for status 2: whatever goes wrong in a dry run is 1', async () => {
    const bad = file('bad.yaml', 'vm: web-1\ncpu: 2\n')
    assert.equal((await fleet.hostlet('apply', '-f', bad)).status, 2)
    for (const words of [
      ['diff', '-f', bad],
      ['apply', '-f', bad, '--dry-run'],
      ['diff'],
      ['vm', 'stop', 'nope', '--dry-run'],
      ['vm', 'stop', '--dry-run', '--nonsense', 'x'],
      ['vm', 'rekey', 'vm-kvm-1', '--dry-run']
    ])
      assert.equal((await fleet.hostlet(...words)).status, 1, words.join(' '))
  })

  it('shows the plan of any command: 2 where something would change, 0 where nothing would', async () => {
    const resize = await fleet.hostlet('vm', 'resize', 'vm-kvm-1', '--cpus', '4', '--dry-run')
    assert.equal(resize.status, 2, resize.stderr)
    assert.match(resize.stdout, /^\+.*<vcpu .*>4<\/vcpu>$/m)
    assert.match(resize.stdout, /Nothing was changed\./)
    const start = await fleet.hostlet('vm', 'start', 'vm-kvm-1', '--dry-run', '-o', 'json')
    assert.equal(start.status, 0, start.stderr)
    const { host, plan } = JSON.parse(start.stdout)
    assert.deepEqual([host, plan.verb, plan.changes], ['kvm-1', 'vm.start', false])
    const create = [
      'vm',
      'create',
      'web-7',
      '--image',
      'https://x/y',
      '--sha256',
      'b'.repeat(64),
      '--memory',
      '1GiB',
      '--disk',
      '1GiB'
    ]
    const planned = await fleet.hostlet(...create, '--dry-run')
    assert.equal(planned.status, 2, planned.stderr)
    assert.match(planned.stdout, /host: +kvm-1 \(chosen by the scheduler: there is no other\)/)
    assert.match(planned.stdout, /steps: +7/)
    assert.equal((await fleet.hostlet('vm', 'show', 'web-7')).status, 4)
    const rm = await fleet.hostlet('vm', 'rm', 'vm-kvm-1', '--dry-run')
    assert.match(rm.stdout, /Its definition in libvirt goes\./)
    assert.match(rm.stdout, /^memory +gives back 64 MiB +/m)
  })
})
