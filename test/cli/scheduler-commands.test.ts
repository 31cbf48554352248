// Commands against a real scheduler: what they print, in both forms, and how they end.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { after, before, describe, it } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { KeyList, LatestMetrics, OperationReply, StatusView, VmList } from '../../src/protocol/api.ts'
import { decodeJoinToken } from '../../src/protocol/join-token.ts'
import { compile } from '../../src/protocol/validate.ts'
import { hostFacts, metricsSample, uuid2, vmSample, vmSummary } from '../scheduler/support/samples.ts'
import { TestFleet } from './fleet.ts'
import { environment, hostlet, mainPath } from './program.ts'

const digest = 'a'.repeat(64)
const create = (name: string) => [
  'vm',
  'create',
  name,
  '--image',
  'https://images.example.org/a.qcow2',
  '--sha256',
  digest
]
const readOperation = compile(OperationReply, 'operation')

let fleet: TestFleet
/** Of web-1, as the scheduler chose it. */
let uuid = ''
before(async () => {
  fleet = await TestFleet.start()
})
after(async () => {
  await fleet[Symbol.asyncDispose]()
})

describe('lists', () => {
  it('are tables for people and the API’s own answer for programs', async () => {
    const table = await fleet.hostlet('host', 'ls')
    assert.equal(table.status, 0)
    assert.match(table.stdout, /^HOST .*STATE.*\n\S+ .* connected /)
    const { stdout } = await fleet.hostlet('vm', 'ls', '-o', 'json')
    assert.deepEqual(compile(VmList, 'list')(JSON.parse(stdout)), { vms: [], more: false })
  })

  it('leave standard output empty when there is nothing, and say what to do', async () => {
    const { status, stdout, stderr } = await fleet.hostlet('vm', 'ls')
    assert.deepEqual([status, stdout], [0, ''])
    assert.match(stderr, /There are no VMs/)
  })
})

describe('operations', () => {
  it('are followed step by step to their end', async () => {
    const running = begin(...create('web-1'), '--host', fleet.agent.id)
    const { claims } = await fleet.agent.nextCommand()
    assert.equal(claims.verb, 'vm.provision')
    uuid = claims.subject?.uuid ?? ''
    fleet.agent.acknowledge(claims.id)
    const step = { type: 'progress', command: claims.id, at: Date.now(), steps: 2 } as const
    fleet.agent.send({ ...step, step: 'fetch image', stepIndex: 0, ratio: 0.5 })
    await running.says('fetch image')
    fleet.agent.finish(claims.id, { vm: vmSummary({ name: 'web-1' }), address: '10.83.0.10' })
    const { status, stdout, stderr } = await running.ended
    assert.equal(status, 0, stderr)
    assert.match(stderr, /^vm\.provision web-1: 1\/2 fetch image$/m)
    assert.match(stdout, /^VM web-1 runs on host \S+ at 10\.83\.0\.10 \(.*\)\.\n$/)
  })

  it('end with the status of their error', async () => {
    const ended = fleet.hostlet(...create('web-2'))
    const { claims } = await fleet.agent.nextCommand()
    fleet.agent.acknowledge(claims.id)
    fleet.agent.fail(claims.id, { code: 'E_TIMEOUT', message: 'VM web-2 did not become ready' })
    const { status, stdout, stderr } = await ended
    assert.equal(status, 8)
    assert.equal(stdout, '')
    assert.match(
      stderr,
      /^error E_TIMEOUT: vm.provision web-2 on host kvm-1: VM web-2 did not become ready\nnext: look before trying again/m
    )
    const waited = await fleet.hostlet('op', 'wait', claims.id, '-o', 'json')
    assert.equal(waited.status, 8)
    assert.equal(readOperation(JSON.parse(waited.stdout)).operation.state, 'failed')
    assert.equal(JSON.parse(waited.stderr).error.code, 'E_TIMEOUT')
  })

  it('are begun and left alone with --no-wait', async () => {
    const { status, stdout } = await fleet.hostlet('vm', 'stop', 'web-1', '--grace', '30s', '--no-wait')
    assert.equal(status, 0)
    const { claims } = await fleet.agent.nextCommand()
    assert.deepEqual(claims.arguments, { vm: 'web-1', graceMs: 30_000 })
    assert.match(stdout, new RegExp(`hostlet op wait ${claims.id}`))
    fleet.agent.acknowledge(claims.id)
    fleet.agent.finish(claims.id, { forced: false })
    const shown = await fleet.hostlet('op', 'show', claims.id)
    assert.match(shown.stdout, /^verb: +vm\.stop$/m)
  })

  it('say which sizes a VM has now and which it has after its next start, and are kept', async () => {
    const sizes = { cpus: 4, memoryBytes: 8 * 1024 ** 3, rootDiskBytes: 40 * 1024 ** 3 }
    const options = ['--cpus', '4', '--memory', '8GiB', '--disk', '40GiB', '--cpu-limit', 'none']
    const ended = fleet.hostlet('vm', 'resize', 'web-1', ...options, '--disk-iops', '500')
    const { claims } = await fleet.agent.nextCommand()
    const asked = { ...sizes, cpuLimitPercent: null, diskLimits: { operationsPerSecondMax: 500 } }
    assert.equal(claims.verb, 'vm.resize')
    assert.deepEqual(claims.arguments, { vm: 'web-1', ...asked })
    fleet.agent.acknowledge(claims.id)
    const changes = [
      { what: 'cpus', applied: 'next start' },
      { what: 'memoryBytes', applied: 'next start' },
      { what: 'rootDiskBytes', applied: 'live' }
    ]
    fleet.agent.finish(claims.id, { sizes, changes })
    const { status, stdout } = await ended
    assert.equal(status, 0)
    assert.match(
      stdout,
      /^VM web-1 has it now: root disk\. From the next start of VM web-1 on: vCPUs, memory\.$/m
    )
    const shown = JSON.parse((await fleet.hostlet('vm', 'show', 'web-1', '-o', 'json')).stdout)
    assert.equal(shown.vm.cpus, 4)
    assert.equal(shown.vm.memoryBytes, sizes.memoryBytes)
    assert.equal(shown.vm.rootDiskBytes, sizes.rootDiskBytes)
    const nothing = await fleet.hostlet('vm', 'resize', 'web-1')
    assert.match(nothing.stderr, /say what to change/)
  })

  it('go on when Ctrl-C detaches from them', async () => {
    const running = begin('vm', 'start', 'web-1')
    const { claims } = await fleet.agent.nextCommand()
    fleet.agent.acknowledge(claims.id)
    await running.says('vm.start web-1')
    running.interrupt()
    const { status, stderr } = await running.ended
    assert.equal(status, 130)
    assert.match(stderr, new RegExp(`detached: vm.start web-1 goes on. .*hostlet op wait ${claims.id}`))
    fleet.agent.finish(claims.id)
    const waited = await fleet.hostlet('op', 'wait', claims.id)
    assert.deepEqual([waited.status, waited.stdout], [0, 'vm.start web-1: done.\n'])
  })
})

describe('placement', () => {
  it('labels are set, shown, narrow the list, and are removed', async () => {
    const { id } = fleet.agent
    assert.equal(
      (await fleet.hostlet('host', 'label', id, 'region=eu', 'rack=r1')).stdout,
      `Host ${id}: rack=r1 region=eu\n`
    )
    assert.match((await fleet.hostlet('host', 'show', id)).stdout, /^labels: +rack=r1 region=eu$/m)
    assert.match(
      (await fleet.hostlet('host', 'ls', '-l', 'region=eu', '-l', 'rack=r1')).stdout,
      new RegExp(`^${id} .*region=eu`, 'm')
    )
    const none = await fleet.hostlet('host', 'ls', '-l', 'region=us')
    assert.deepEqual([none.stdout, none.status], ['', 0])
    assert.match(none.stderr, /No host has these labels/)
    assert.equal((await fleet.hostlet('host', 'label', id, 'rack-')).stdout, `Host ${id}: region=eu\n`)
  })

  it('words that are no labels are refused with what they should be', async () => {
    const bare = await fleet.hostlet('host', 'label', fleet.agent.id, 'region')
    assert.deepEqual([bare.status, bare.stdout], [2, ''])
    assert.match(bare.stderr, /write region=VALUE to set it, region- to remove it/)
    const spaces = await fleet.hostlet('host', 'label', fleet.agent.id, 'region=e u')
    assert.equal(spaces.status, 2)
    const alone = await fleet.hostlet('host', 'candidates', '--apart')
    assert.match(alone.stderr, /about the VMs of a group/)
  })

  it('tells where a VM would stand, and why not elsewhere', async () => {
    const { id } = fleet.agent
    const fits = await fleet.hostlet('host', 'candidates', '--require', 'region=eu', '--memory', '1GiB')
    assert.match(fits.stdout, new RegExp(`^Host ${id}: 1 vCPU, 1 GiB of memory.*requires region=eu$`, 'm'))
    assert.match(fits.stdout, new RegExp(`^${id} +\\d\\.\\d\\d +`, 'm'))
    const not = await fleet.hostlet('host', 'candidates', '--require', 'region=us')
    assert.match(not.stdout, /^No host takes it:/)
    assert.match(not.stdout, new RegExp(`^${id} +labels +it has region=eu, not region=us$`, 'm'))
  })
})

describe('figures', () => {
  it('are shown host by host with their VMs below', async () => {
    const { agent } = fleet
    agent.sendInventory({ vms: [vmSummary({ uuid, startedAt: Date.now() - 61_000 })] })
    const sample = vmSample({ uuid, cpuCoresUsed: 0.25, memoryResidentBytes: 64 * 1024 ** 2 })
    agent.send({ type: 'metrics', samples: [metricsSample(Date.now(), [sample])] })
    await agent.sync()
    const { status, stdout } = await fleet.hostlet('top')
    assert.equal(status, 0)
    assert.match(stdout, new RegExp(`^${agent.id} +connected +10% +8G/16G`, 'm'))
    assert.match(stdout, /^ {2}web-1 +running +6% +64M\/8G .* 1m\d+s +10\.83\.0\.10$/m)
    assert.equal(stdout.includes('\x1b'), false)
    const json = await fleet.hostlet('top', '--once', '-o', 'json')
    assert.equal(compile(LatestMetrics, 'figures')(JSON.parse(json.stdout)).vms.length, 1)
  })

  it('are kept, and shown moment by moment', async () => {
    const { agent } = fleet
    const at = Date.now() + 1
    const sample = vmSample({ uuid, cpuCoresUsed: 0.5, diskWriteBytesPerSecond: 2_048 })
    agent.send({ type: 'metrics', samples: [metricsSample(at, [sample])] })
    await agent.sync()
    const host = await fleet.hostlet('host', 'metrics', agent.id, '--limit', '1')
    assert.match(host.stdout, /^TIME +CPU +LOAD .*\n\S+ \S+ +10% +0\.50 +8G +1 +1 +1 +1\n$/)
    const vm = await fleet.hostlet('vm', 'metrics', 'web-1', '--since', '1h')
    assert.match(vm.stdout, /^TIME .*\n.* running +0\.25 +64M .*\n.* running +0\.50 +- +- +- +2K +- +-\n$/)
    const none = await fleet.hostlet('vm', 'metrics', 'nope')
    assert.equal(none.status, 4)
  })
})

describe('without a terminal', () => {
  it('what cannot be taken back is done only with --yes', async () => {
    const reimage = ['vm', 'reimage', 'web-1', '--image', 'file:///i.qcow2', '--sha256', 'a'.repeat(64)]
    for (const [words, asked] of [
      [['vm', 'rm', 'web-1', '--now'], /Erase VM web-1 and all its disks\? /],
      [['vm', 'rm', 'web-1', '--retain', '0'], /Erase VM web-1/],
      // As the scheduler is configured here.
      [['vm', 'rm', 'web-1'], /Erase VM web-1/],
      [['vm', 'rm', 'web-1', '--retain', '7d', '--backups'], /in 7 days\?/],
      [reimage, /Replace the root disk of VM web-1\?/]
    ] as const) {
      const { status, stderr } = await fleet.hostlet(...words)
      assert.equal(status, 2, words.join(' '))
      assert.match(stderr, asked)
      assert.match(stderr, /VM web-1 was left alone\. Give --yes/)
    }
    assert.deepEqual(fleet.agent.unread('command'), [])
  })
})

describe('on a terminal', {
  skip: spawnSync('script', ['--version']).status === 0 ? false : 'no "script" here'
}, () => {
  it('figures are drawn again until Ctrl-C', async () => {
    const terminal = onTerminal('top')
    await terminal.says('Ctrl-C ends')
    terminal.type('\x03')
    const { status, text } = await terminal.ended
    assert.equal(status, 0, text)
    assert.match(stripVTControlCharacters(text), /web-1 +running/)
  })

  it('a host is revoked, and VMs are forgotten, only when the question is answered with yes', async () => {
    for (const [words, question] of [
      [['host', 'rm', fleet.agent.id], `Revoke host ${fleet.agent.id}? It may not connect any more`],
      [['vm', 'forget', 'web-1'], 'Forget VM web-1? [y/N]']
    ] as const) {
      const terminal = onTerminal(...words)
      await terminal.says(question)
      terminal.type('n\r')
      assert.equal((await terminal.ended).status, 8)
    }
    const listed = await fleet.hostlet('host', 'ls')
    assert.match(listed.stdout, / connected /)
  })

  it('a VM is removed only when the question is answered with yes', async () => {
    const terminal = onTerminal('vm', 'rm', 'web-1')
    await terminal.says('Erase VM web-1 and all its disks? [y/N]')
    terminal.type('\r')
    const { status, text } = await terminal.ended
    assert.equal(status, 8)
    assert.match(stripVTControlCharacters(text), /E_CANCELLED: VM web-1 was left alone/)
    assert.deepEqual(fleet.agent.unread('command'), [])
  })

  it('the question says whether a VM is kept, and for how long', async () => {
    for (const [words, question] of [
      [['--retain', '7d'], 'Switch VM web-1 off now, and erase VM web-1 and all its disks in 7 days?'],
      [['--now', '--backups'], 'Erase VM web-1 and all its disks, and all its backups?']
    ] as const) {
      const terminal = onTerminal('vm', 'rm', 'web-1', ...words)
      await terminal.says(question)
      terminal.type('n\r')
      assert.equal((await terminal.ended).status, 8)
    }
    for (const words of [
      ['--retain', '7d', '--now'],
      ['--retain', '12h'],
      ['--retain', 'week']
    ]) {
      const { status, stderr } = await fleet.hostlet('vm', 'rm', 'web-1', ...words)
      assert.deepEqual([status, /--retain|duration/.test(stderr)], [2, true])
    }
  })

  it('those that are kept are listed apart, with when they go', async () => {
    const retainedUntil = Date.now() + 30 * 86_400_000 - 60_000
    const running = vmSummary({ name: 'web-1', uuid })
    const kept = vmSummary({ name: 'old-1', uuid: uuid2, state: 'stopped', retainedUntil })
    fleet.agent.sendInventory({ vms: [running, kept] })
    await fleet.agent.sync()
    const all = await fleet.hostlet('vm', 'ls')
    assert.doesNotMatch(all.stdout, /old-1/)
    assert.match(all.stderr, /Removed and kept: 1. See them with: hostlet vm ls --deleted/)
    const deleted = await fleet.hostlet('vm', 'ls', '--deleted')
    assert.match(deleted.stdout, /old-1 .* 29d23h .*hostlet vm undelete old-1/)
    assert.doesNotMatch(deleted.stdout, /web-1/)
    fleet.agent.sendInventory({ vms: [running] })
    await fleet.agent.sync()
    assert.match((await fleet.hostlet('vm', 'ls', '--deleted')).stderr, /No VM that was removed is kept/)
  })
})

describe('events', () => {
  const event = (detail: string) =>
    fleet.agent.send({
      ...{ type: 'event', at: Date.now(), vm: 'web-1', uuid, kind: 'started', state: 'running' },
      detail
    })

  it('are shown from the newest back, and followed on from there', async () => {
    for (const detail of ['first', 'second', 'third']) event(detail)
    await fleet.agent.sync()
    const listed = await fleet.hostlet('events', '--vm', 'web-1', '--limit', '2')
    assert.match(listed.stdout, /^TIME .*\n.* second\n.* third\n$/)
    assert.match(listed.stderr, /Only 2 are shown/)
    const after = await fleet.hostlet('events', '--after', '0', '--limit', '1')
    assert.match(after.stdout, / first\n$/)
    const shown = await fleet.hostlet('vm', 'show', 'web-1')
    assert.match(shown.stdout, /Recent events:\n.*\n.* first\n.* second\n.* third\n$/)
    const following = begin('events', '--follow', '--limit', '1', '-o', 'json')
    await following.prints('"detail":"third"')
    event('fourth')
    await following.prints('"detail":"fourth"')
    following.interrupt()
    const { status, stdout } = await following.ended
    assert.equal(status, 130)
    assert.deepEqual(
      stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).detail),
      ['third', 'fourth']
    )
  })
})

describe('looking anew', () => {
  it('asks the host, and says what it saw', async () => {
    const host = begin('host', 'refresh', fleet.agent.id)
    const first = await fleet.agent.nextCommand()
    assert.equal(first.claims.verb, 'host.facts')
    fleet.agent.finish(first.claims.id, { facts: hostFacts(fleet.agent.id) })
    assert.match((await host.ended).stdout, /has looked at itself anew/)
    const vm = begin('vm', 'refresh', 'web-1')
    const second = await fleet.agent.nextCommand()
    fleet.agent.finish(second.claims.id, { vm: vmSummary({ uuid, state: 'paused' }) })
    assert.equal((await vm.ended).stdout, 'VM web-1 is paused.\n')
  })

  it('audits a VM: a line an item with why, and ends with 3 when one is not as promised', async () => {
    const item = (id: string, answer: string) => ({
      id,
      title: `title of ${id}`,
      answer,
      why: `because ${id}`
    })
    const items = [item('seccomp', 'yes'), item('no-display', 'no'), item('firewall', 'unknown')]
    const audited = async (words: readonly string[], seen: readonly object[]) => {
      const running = begin('vm', 'audit', 'web-1', ...words)
      const { claims } = await fleet.agent.nextCommand()
      assert.deepEqual([claims.verb, claims.arguments], ['vm.audit', { vm: 'web-1' }])
      fleet.agent.finish(claims.id, { vm: 'web-1', at: 1_700_000_000_000, items: seen })
      return await running.ended
    }
    const bad = await audited([], items)
    assert.equal(bad.status, 3)
    assert.match(bad.stdout, /^ITEM +ANSWER +WHY\n/)
    assert.match(bad.stdout, /^title of no-display +no +because no-display$/m)
    assert.match(bad.stdout, /VM web-1: 1 yes, 1 no, 1 unknown\n$/)
    const good = await audited(['-o', 'json'], items.slice(0, 1))
    assert.equal(good.status, 0)
    assert.deepEqual(JSON.parse(good.stdout).items, items.slice(0, 1))
  })

  it('shows the fleet in numbers', async () => {
    const { status, stdout } = await fleet.hostlet('status')
    assert.equal(status, 0)
    assert.match(stdout, /^hosts: +1, 1 connected, 0 away$/m)
    compile(StatusView, 'status')(JSON.parse((await fleet.hostlet('status', '-o', 'json')).stdout))
  })
})

describe('keys of hosts and disks', () => {
  it('are replaced by the host, which says how it went', async () => {
    const host = begin('host', 'rotate-key', fleet.agent.id)
    const first = await fleet.agent.nextCommand()
    assert.equal(first.claims.verb, 'host.rotate-key')
    fleet.agent.finish(first.claims.id, { before: 'old', now: 'new', rewrapped: 3, unreadable: [] })
    assert.match((await host.ended).stdout, /has key new now; 3 disk keys were wrapped anew/)
    const vm = begin('vm', 'rekey', 'web-1')
    const second = await fleet.agent.nextCommand()
    assert.deepEqual([second.claims.verb, second.claims.arguments], ['vm.rekey', { vm: 'web-1' }])
    fleet.agent.finish(second.claims.id, { vm: 'web-1', keys: [] })
    assert.match((await vm.ended).stdout, /The disks of VM web-1 open with new passphrases/)
  })
})

describe('a host that is drained', () => {
  it('is followed until it does nothing any more, is shown as such, and takes work again when told to', async () => {
    const { id } = fleet.agent
    const draining = begin('host', 'drain', id, '--wait-for', '2h')
    const { claims } = await fleet.agent.nextCommand()
    assert.deepEqual([claims.verb, claims.arguments], ['host.drain', { waitMs: 7_200_000 }])
    const since = Date.parse('2030-01-02T03:04:05Z')
    // Taken in before the result, since it was sent before.
    fleet.agent.heartbeat({ operationsRunning: 2, drainingSince: since })
    fleet.agent.finish(claims.id, { since, idle: true })
    assert.match((await draining.ended).stdout, /does nothing any more and takes no new work/)
    const { stdout } = await fleet.hostlet('host', 'show', id)
    assert.match(stdout, /being drained, 2 operations are left/)
    assert.match(stdout, /^drained: +takes no new work since 2030-01-02/m)
    const resuming = begin('host', 'resume', id)
    const second = await fleet.agent.nextCommand()
    assert.deepEqual([second.claims.verb, second.claims.arguments], ['host.resume', {}])
    fleet.agent.heartbeat()
    fleet.agent.finish(second.claims.id, { resumed: true })
    assert.match((await resuming.ended).stdout, /takes work again/)
    assert.doesNotMatch((await fleet.hostlet('host', 'show', id)).stdout, /drained/)
  })
})

describe('an operation that its host refuses for now', () => {
  it('is followed on, with what the host said, and ends well', async () => {
    const running = begin('vm', 'reboot', 'web-1')
    const { claims } = await fleet.agent.nextCommand()
    fleet.agent.refuse(claims.id, { code: 'E_BUSY', message: '64 operations wait already.' })
    await running.says('does not take it now (E_BUSY: 64 operations wait already.)')
    await fleet.agent.nextCommand()
    fleet.agent.finish(claims.id)
    assert.equal((await running.ended).status, 0)
  })
})

describe('keys and tokens', () => {
  it('are shown once, as the only thing on standard output', async () => {
    const { stdout, stderr } = await fleet.hostlet('key', 'create', 'read', '--note', 'dashboard')
    assert.match(stdout, /^hlk_[A-Za-z0-9_-]{43}\n$/)
    assert.match(stderr, /shown this once/)
    const { keys } = compile(
      KeyList,
      'keys'
    )(JSON.parse((await fleet.hostlet('key', 'ls', '-o', 'json')).stdout))
    const made = keys.find(({ note }) => note === 'dashboard')
    const refused = await hostlet(create('no'), {
      ...fleet.environment,
      HOSTLET_API_KEY_FILE: '',
      HOSTLET_API_KEY: stdout.trim()
    })
    assert.equal(refused.status, 6)
    assert.match(refused.stderr, /^error E_AUTH: /)
    const removed = await fleet.hostlet('key', 'rm', made?.id ?? '')
    assert.equal(removed.status, 0)
    const gone = await hostlet(['vm', 'ls'], {
      ...fleet.environment,
      HOSTLET_API_KEY_FILE: '',
      HOSTLET_API_KEY: stdout.trim()
    })
    assert.equal(gone.status, 6)
  })

  it('print the one line to run on the new host', async () => {
    const { stdout } = await fleet.hostlet('host', 'token', '--ttl', '5m')
    const [, word = ''] = /^hostlet init --token-file - <<< (hlj_[\w-]+)\n$/.exec(stdout) ?? []
    const { urls, caHash, token } = decodeJoinToken(word)
    assert.match(urls[0] ?? '', /^https:/)
    assert.match(caHash, /^sha256:[0-9a-f]{64}$/)
    assert.match(token, /^hlt_/)
    const listed = await fleet.hostlet('host', 'token', '--list')
    const id = /^(\S+) +open/m.exec(listed.stdout)?.[1] ?? ''
    assert.equal((await fleet.hostlet('host', 'token', '--revoke', id)).status, 0)
  })
})

describe('a host that is gone for good', () => {
  it('is revoked, and its VMs are forgotten, each only in that order', async () => {
    await using lost = await TestFleet.start()
    lost.agent.sendInventory({ vms: [vmSummary(), vmSummary({ name: 'web-2', uuid: uuid2 })] })
    await lost.agent.sync()
    const early = await lost.hostlet('vm', 'forget', '--host', 'kvm-1', '--yes')
    assert.equal(early.status, 5)
    assert.match(early.stderr, /E_CONFLICT: VM web-1 is on host kvm-1, which is not revoked/)
    const revoked = await lost.hostlet('host', 'rm', 'kvm-1')
    assert.deepEqual([revoked.status, revoked.stdout], [0, 'Host kvm-1 is revoked.\n'])
    assert.match(revoked.stderr, /Its 2 VMs run on.*\n.*hostlet vm forget --host kvm-1/)
    assert.equal((await lost.hostlet('host', 'rm', 'kvm-1')).status, 5)
    const one = await lost.hostlet('vm', 'forget', 'web-2', '-o', 'json')
    assert.deepEqual(JSON.parse(one.stdout), { forgotten: ['web-2'] })
    const rest = await lost.hostlet('vm', 'forget', '--host', 'kvm-1')
    assert.equal(rest.stdout, 'Forgotten: VM web-1.\n')
    assert.equal((await lost.hostlet('vm', 'ls')).stdout, '')
    const none = await lost.hostlet('vm', 'forget', '--host', 'kvm-1')
    assert.equal(none.stdout, 'There was nothing to forget.\n')
  })
})

describe('what goes wrong', () => {
  it('is told with the code of the table', async () => {
    const cases = [
      [['vm', 'show', 'nope'], 4, /E_NOT_FOUND/],
      [['host', 'show', 'nope'], 4, /E_NOT_FOUND/],
      [['op', 'show', '11111111-1111-4111-8111-111111111111'], 4, /E_NOT_FOUND/],
      [['vm', 'show', 'Not/A<Name>'], 4, /E_NOT_FOUND: there is no VM "Not\/A<Name>"/],
      [['vm', 'ls', '--host', 'Not/A<Name>'], 2, /E_BAD_REQUEST/],
      [create('web-1'), 5, /E_CONFLICT/]
    ] as const
    for (const [words, expected, text] of cases) {
      const { status, stderr } = await fleet.hostlet(...words)
      assert.equal(status, expected, stderr)
      assert.match(stderr, text)
    }
  })

  it('refuses a scheduler whose CA is not the pinned one, and says which', async () => {
    const unpinned = await hostlet(['vm', 'ls'], { ...fleet.environment, HOSTLET_CA_FILE: '' })
    assert.equal(unpinned.status, 6)
    assert.match(unpinned.stderr, /not signed by a CA that this machine trusts\. Give the scheduler’s CA/)
    await using other = await TestFleet.start()
    const wrong = await hostlet(['vm', 'ls'], {
      ...fleet.environment,
      HOSTLET_CA_FILE: other.scheduler.caFile
    })
    assert.equal(wrong.status, 6)
    assert.match(wrong.stderr, /not signed by the CA in /)
  })

  it('refuses a name that the certificate does not have', async () => {
    const url = fleet.scheduler.url.replace('localhost', '127.0.0.1').replace('127.0.0.1', '0.0.0.0')
    const { status, stderr } = await hostlet(['vm', 'ls'], { ...fleet.environment, HOSTLET_SCHEDULER: url })
    assert.equal(status, 6, stderr)
    assert.match(stderr, /is for other names than 0\.0\.0\.0/)
  })

  it('goes past every proxy of the environment', async () => {
    const proxy = {
      HTTPS_PROXY: 'http://127.0.0.1:1',
      https_proxy: 'http://127.0.0.1:1',
      NODE_USE_ENV_PROXY: '1'
    }
    const { status, stderr } = await hostlet(['host', 'ls'], { ...fleet.environment, ...proxy })
    assert.equal(status, 0, stderr)
  })

  it('ends quietly when its reader has seen enough', async () => {
    const script = `"${process.execPath}" "${mainPath}" top --once -o json | head -c 1; echo "\${PIPESTATUS[0]}"`
    const child = spawn('bash', ['-c', script], {
      env: environment(fleet.environment),
      stdio: ['ignore', 'pipe', 'pipe']
    })
    let text = ''
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
    await once(child, 'close')
    assert.equal(text, '{0\n')
  })
})

/** A command on a terminal of its own. */
function onTerminal(...words: readonly string[]) {
  // exec: a shell between would be interrupted too, and answer for both.
  const command = ['exec', process.execPath, mainPath, ...words].join(' ')
  const child = spawn('script', ['-qefc', command, '/dev/null'], {
    env: environment({ ...fleet.environment, TERM: 'xterm', SHELL: '/bin/sh' }),
    stdio: ['pipe', 'pipe', 'inherit']
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part
  })
  return {
    ended: once(child, 'close').then(() => ({ status: child.exitCode, text })),
    type: (keys: string) => child.stdin.write(keys),
    says: async (expected: string) => {
      while (!text.includes(expected)) await once(child.stdout, 'data')
    }
  }
}

/** A command that goes on while the test does something. */
function begin(...words: readonly string[]) {
  const child = spawn(process.execPath, [mainPath, ...words], {
    env: environment(fleet.environment),
    stdio: ['ignore', 'pipe', 'pipe']
  })
  const texts = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (text: string) => {
      texts[name] += text
    })
  return {
    ended: once(child, 'close').then(() => ({ status: child.exitCode, ...texts })),
    interrupt: () => child.kill('SIGINT'),
    says: async (text: string) => {
      while (!texts.stderr.includes(text)) await once(child.stderr, 'data')
    },
    prints: async (text: string) => {
      while (!texts.stdout.includes(text)) await once(child.stdout, 'data')
    }
  }
}
