// hostlet why: each reason for which a VM, an operation or a host stands where it does, and a next step with each.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { HostFacts, OperationFacts, VmFacts } from '../../src/cli/why/facts.ts'
import { explainHost } from '../../src/cli/why/host.ts'
import { explainOperation } from '../../src/cli/why/operation.ts'
import { whyLines } from '../../src/cli/why/text.ts'
import { explainVm } from '../../src/cli/why/vm.ts'
import { LocalHost } from '../support/local-host.ts'
import { hostlet } from './program.ts'

const now = 1_795_845_600_000
const host: HostFacts = {
  id: 'kvm-1',
  state: 'connected',
  reason: 'connected',
  since: now - 60_000,
  libvirt: 'connected',
  conditions: [],
  foreign: []
}
const vm: VmFacts = { name: 'web-1', state: 'running', reason: 'booted', wanted: 'running', fresh: true }
const operation: OperationFacts = {
  id: 'op-1',
  verb: 'vm.start',
  vm: 'web-1',
  host: 'kvm-1',
  state: 'running',
  since: now - 5_000
}
const backup: OperationFacts = {
  ...operation,
  id: 'op-2',
  verb: 'vm.backup',
  step: 'copy',
  stepIndex: 2,
  steps: 5,
  ratio: 0.4
}
const error = { code: 'E_CAPACITY', message: 'no memory left. Free some.' } as const

const ofVm = (changes: Partial<VmFacts>, context: Partial<Parameters<typeof explainVm>[1]> = {}) =>
  explainVm({ ...vm, ...changes }, { now, host, operations: [], holders: [], ...context })
const ofOperation = (changes: Partial<OperationFacts>, holder?: OperationFacts) =>
  explainOperation({ ...operation, ...changes }, { now, holder })
const ofHost = (changes: Partial<HostFacts>, operations: readonly OperationFacts[] = []) =>
  explainHost({ ...host, ...changes }, { now, operations })
const said = (why: { says: string; findings: readonly { text: string }[] }) =>
  [why.says, ...why.findings.map(({ text }) => text)].join('\n')

describe('why an operation', () => {
  it('waits for another one names that, how far it is, and how to end it', () => {
    const wait = {
      kind: 'lock',
      since: now - 1_000,
      what: 'VM web-1',
      holder: 'op-2',
      holderVerb: 'vm.backup',
      ahead: 2
    } as const
    const why = ofOperation({ state: 'queued', wait }, backup)
    assert.equal(why.says, 'vm.start of VM web-1 waits for VM web-1, which vm.backup op-2 has')
    assert.match(said(why), /vm\.backup op-2 is at step 3\/5 copy, 40 %/)
    assert.match(said(why), /2 other operations come before it/)
    assert.deepEqual(why.next[0], 'hostlet why op-2')
    assert.match(why.next[1] ?? '', /^hostlet op cancel op-2/)
  })

  it('waits for the agent itself, a place or libvirt', () => {
    const wait = { since: now, what: 'VM web-1', ahead: 0 }
    assert.match(
      ofOperation({ state: 'queued', wait: { ...wait, kind: 'lock' } }).says,
      /which the agent itself has/
    )
    const place = ofOperation({
      state: 'queued',
      wait: { ...wait, kind: 'place', what: 'a place for transfers' }
    })
    assert.match(place.says, /waits for a place for transfers: as many run on host kvm-1 as may/)
    const libvirt = ofOperation({ wait: { ...wait, kind: 'libvirt' } })
    assert.match(libvirt.says, /waits for libvirt of host kvm-1 to answer/)
    assert.match(libvirt.next[0] ?? '', /systemctl status libvirtd/)
  })

  it('is not delivered: the host is away, or somebody has to approve', () => {
    const away = ofOperation({ state: 'waiting', hint: 'Host kvm-1 is away.' })
    assert.match(said(away), /has not been taken by host kvm-1 yet\nHost kvm-1 is away\./)
    assert.equal(away.next[0], 'hostlet why kvm-1 --host')
    assert.deepEqual(ofOperation({ state: 'waiting', awaits: 'approval' }).next, ['hostlet approve op-1'])
  })

  it('is tried again, with the last error, how often, and after how many starts', () => {
    const trouble = { at: now, tries: 2, error: { code: 'E_INTERRUPTED', message: 'libvirt went' } } as const
    const why = ofOperation({ step: 'start', stepIndex: 1, steps: 2, trouble, attempts: 2 })
    assert.match(
      said(why),
      /step 2\/2 start\nbegun 2 times.*\n.*interrupted 2 times.*E_INTERRUPTED: libvirt went/
    )
  })

  it('failed, expired, is undone or done', () => {
    assert.match(said(ofOperation({ state: 'failed', error })), /failed\nE_CAPACITY: no memory left/)
    assert.match(ofOperation({ state: 'expired' }).says, /did not take it in time, and nothing happened/)
    assert.match(
      ofOperation({ state: 'undoing', cancelled: true }).says,
      /was cancelled, and is being undone/
    )
    assert.match(ofOperation({ state: 'done', finishedAt: now }).says, /is done since/)
  })
})

describe('why a VM', () => {
  it('runs as wanted', () => {
    assert.deepEqual(ofVm({}).next, [])
    assert.deepEqual(whyLines(ofVm({}), now, { colour: false }), ['VM web-1 runs as wanted.'])
  })

  it('is off although it should run: by its guest, by a crash, after a boot of the host', () => {
    assert.match(ofVm({ state: 'stopped', reason: 'shutdown' }).says, /its guest shut itself down/)
    assert.match(ofVm({ state: 'crashed', reason: 'crashed' }).says, /its QEMU crashed or was killed/)
    const why = ofVm({ state: 'stopped' }, { notStarted: 'the key of its disk is lost' })
    assert.match(said(why), /could not be started after the boot.*\nthe key of its disk is lost/)
    assert.ok(why.next.includes('hostlet vm start web-1'))
  })

  it('is off as wanted: who did that, or what failed', () => {
    const stopped = ofVm(
      { state: 'stopped', wanted: 'stopped' },
      { operations: [{ ...operation, verb: 'vm.stop', state: 'done', finishedAt: now }] }
    )
    assert.match(said(stopped), /is off, as wanted.*\nvm\.stop \(op-1\) did that/)
    assert.match(stopped.next.join('\n'), /hostlet audit ls/)
    const failed = ofVm(
      { state: 'stopped', wanted: 'stopped' },
      { operations: [{ ...operation, state: 'failed', error }] }
    )
    assert.match(said(failed), /vm\.start \(op-1\) failed: E_CAPACITY/)
  })

  it('has an operation that waits for another', () => {
    const wait = { kind: 'lock', since: now, what: 'VM web-1', holder: 'op-2', ahead: 0 } as const
    const why = ofVm({}, { operations: [{ ...operation, state: 'queued', wait }], holders: [backup] })
    assert.match(said(why), /vm\.start of VM web-1 waits for VM web-1, which operation op-2 has/)
    assert.equal(why.next[0], 'hostlet why op-2')
  })

  it('is not ready, paused, kept, missing, drifted, or its service is ill', () => {
    const ill = [{ name: 'db', state: 'unhealthy', since: now }] as const
    assert.match(said(ofVm({ health: [...ill] })), /its service db does not answer\nservice db is unhealthy/)
    assert.match(ofVm({ wanted: 'stopped' }).says, /is wanted off: it is not ready yet/)
    assert.match(ofVm({ state: 'paused', reason: 'ioerror' }).next[0] ?? '', /room in the pool/)
    assert.match(ofVm({ state: 'stopped', retainedUntil: now }).next[0] ?? '', /hostlet vm undelete web-1/)
    assert.match(ofVm({ state: 'missing' }).next.join(), /hostlet host refresh kvm-1/)
    const drift = {
      id: 'cpus',
      title: 'CPUs',
      recorded: '2',
      actual: '4',
      since: now,
      severity: 'warning',
      repair: 'ask',
      next: 'Repair it.'
    } as const
    const drifted = ofVm({ drift: [drift] })
    assert.match(said(drifted), /cpus is 4, recorded 2\. Repair it\./)
    assert.deepEqual(drifted.next, ['hostlet vm repair web-1 --dry-run'])
  })

  it('is last known where its host or libvirt is away', () => {
    const away = { ...host, state: 'away', reason: 'the network is cut' } as const
    const why = ofVm({ fresh: false }, { host: away })
    assert.equal(why.state, 'running?')
    assert.match(said(why), /last known: host kvm-1 is away: the network is cut/)
    assert.equal(why.next[0], 'hostlet why kvm-1 --host')
    assert.match(ofVm({ fresh: false }).next[0] ?? '', /systemctl status libvirtd/)
  })

  it('has the conditions of its host that name it or concern all, and no others', () => {
    const condition = (id: string, message: string) => ({
      id,
      message,
      severity: 'critical' as const,
      since: now
    })
    const conditions = [
      condition('pool-full', 'the pool is full'),
      condition('disk-key-missing', 'the key of web-1 is lost'),
      condition('backup-overdue', 'the backup of web-10 is late'),
      condition('clock-skew', 'the clock is off')
    ]
    const text = said(ofVm({}, { host: { ...host, conditions } }))
    assert.match(text, /pool-full/)
    assert.match(text, /disk-key-missing/)
    assert.doesNotMatch(text, /backup-overdue|clock-skew/)
  })
})

describe('why a host', () => {
  it('is well, away, new, revoked, drained or without libvirt', () => {
    assert.deepEqual(ofHost({}).next, [])
    assert.match(
      ofHost({ state: 'away', reason: 'it missed 3 heartbeats' }).says,
      /is away: it missed 3 heartbeats/
    )
    assert.match(ofHost({ state: 'new', reason: 'never came' }).next[0] ?? '', /systemctl status hostlet/)
    assert.match(ofHost({ state: 'revoked' }).next.join(), /hostlet host token/)
    assert.match(ofHost({ drainingSince: now }).next.join(), /hostlet host resume kvm-1/)
    assert.match(ofHost({ libvirt: 'away' }).next[0] ?? '', /systemctl status libvirtd/)
  })

  it('has conditions, a clock that is off, an old certificate, and domains in quarantine', () => {
    const condition = {
      id: 'pool-full',
      message: '3 % left. Remove images.',
      severity: 'warning',
      since: now
    } as const
    const foreign = {
      name: 'copy',
      uuid: '',
      state: 'stopped',
      reason: 'copied',
      detail: 'of web-1'
    } as const
    const why = ofHost({
      conditions: [condition],
      clockSkewMs: 90_000,
      certificateExpiresAt: now - 1,
      foreign: [foreign]
    })
    assert.match(
      said(why),
      /clock is 1m30s ahead[\s\S]*pool-full: 3 % left[\s\S]*certificate expired[\s\S]*domain copy is quarantined \(copied: of web-1\)/
    )
    assert.match(why.says, /works, and 1 condition wants a look/)
    assert.match(why.next.join(), /^hostlet doctor /)
  })

  it('says which conditions are critical, and that it gets no new VMs with some of them', () => {
    const critical = (id: string) => ({ id, message: 'Mend it.', severity: 'critical' as const, since: now })
    const one = ofHost({ conditions: [critical('pool-silent')] })
    assert.equal(one.says, 'host kvm-1 is in a critical condition: pool-silent; it gets no new VMs meanwhile')
    assert.match(one.next.join(), /^hostlet doctor /)
    const two = ofHost({ conditions: [critical('backup-overdue'), critical('clock-skew')] })
    assert.equal(two.says, 'host kvm-1 is in 2 critical conditions: backup-overdue, clock-skew')
  })

  it('lists what runs and waits there', () => {
    const wait = { kind: 'place', since: now, what: 'a place for transfers', ahead: 1 } as const
    const why = ofHost({}, [{ ...operation, state: 'queued', wait }])
    assert.match(said(why), /vm\.start of web-1 \(op-1\): queued, waits for a place for transfers/)
  })
})

describe('an explanation in lines', () => {
  it('begins with the reason and ends with what to do', () => {
    const lines = whyLines(ofVm({ state: 'stopped', reason: 'shutdown\u001b[2J' }), now, { colour: false })
    assert.match(lines[0] ?? '', /^VM web-1 should run and is off: its guest|^VM web-1 should run/)
    assert.equal(lines.join('').includes('\u001b'), false)
    assert.equal(lines[lines.indexOf('next:') + 1], '  hostlet vm start web-1')
  })
})

describe('hostlet why and hostlet status on a host', { timeout: 120_000 }, () => {
  let local: LocalHost

  before(async () => {
    local = await LocalHost.start()
    await local.until(({ scheduler }) => scheduler.state === 'connected')
  })
  after(async () => await local[Symbol.asyncDispose]())

  const run = (...words: string[]) => hostlet(words, { HOSTLET_SOCKET: local.path })

  it('tell what an operation waits for, from either end', async () => {
    local.standStill()
    const first = await local.command('vm.start', 2)
    const second = await local.command('vm.stop', 3)
    await local.until(({ operations }) => operations.length === 2 && operations[0]?.step !== undefined)
    const why = await run('why', second)
    assert.equal(why.stderr, '')
    assert.match(
      why.stdout,
      new RegExp(`^vm\\.stop of VM web-1 waits for VM web-1, which vm\\.start ${first} has\\.\\n`)
    )
    assert.match(why.stdout, new RegExp(`at step 1/2 have it run[\\s\\S]*next:\\n  hostlet why ${first}\\n`))
    const ofVm = JSON.parse((await run('why', 'web-1', '-o', 'json')).stdout)
    assert.equal(ofVm.kind, 'vm')
    assert.ok(ofVm.next.includes(`hostlet why ${first}`))
    const { stdout } = await run('status')
    assert.match(stdout, /^operations: +1 running, 1 waiting$/m)
    assert.match(
      stdout,
      new RegExp(`^${second} +vm\\.stop +web-1 +waiting .*waits for VM web-1, which vm\\.start`, 'm')
    )
    local.goOn()
    await local.ended(second)
  })

  it('tell of the host itself, and of nothing that it does not know', async () => {
    assert.match((await run('why')).stdout, /^Host host-1 (is well|works|is in)/)
    const unknown = await run('why', 'nobody')
    assert.equal(unknown.status, 4)
    assert.match(unknown.stderr, /host host-1 knows nothing of "nobody"/)
  })

  it('are asked for one of two, and for one that is there', async () => {
    const both = await run('status', '--local', '--scheduler', 'https://localhost:7443')
    assert.equal(both.status, 2)
    assert.match(both.stderr, /give one of them/)
    const none = await hostlet(['status'], { HOSTLET_SOCKET: '/nonexistent/agent.sock' })
    assert.equal(none.status, 7)
    assert.match(
      none.stderr,
      /no scheduler is configured \(HOSTLET_SCHEDULER.*, and no agent runs on this host \(there is no \/nonexistent\/agent\.sock\)/
    )
    const why = await hostlet(['why', 'web-1'], { HOSTLET_SOCKET: '/nonexistent/agent.sock' })
    assert.equal(why.status, 7)
    assert.match(why.stderr, /no scheduler is configured .*, and no agent runs on this host/)
    const keyless = { HOSTLET_SOCKET: '/nonexistent/agent.sock', HOSTLET_SCHEDULER: 'https://127.0.0.1:1' }
    assert.match((await hostlet(['why', 'web-1'], keyless)).stderr, /no command goes without an API key/)
    const local = await hostlet(['status', '--local'], { HOSTLET_SOCKET: '/nonexistent/agent.sock' })
    assert.match(local.stderr, /no agent runs on this host \(there is no \/nonexistent\/agent\.sock\)/)
  })

  it('fall back on the agent where the scheduler is not there, and say so', async () => {
    const away = { HOSTLET_SCHEDULER: 'https://127.0.0.1:1', HOSTLET_API_KEY: `hlk_${'a'.repeat(43)}` }
    const { status, stdout, stderr } = await hostlet(['why', 'web-1'], {
      ...away,
      HOSTLET_SOCKET: local.path
    })
    assert.equal(status, 0)
    assert.match(stderr, /This is what the agent of this host says/)
    assert.match(stdout, /^VM web-1 /)
  })
})
