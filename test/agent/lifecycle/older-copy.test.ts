// An older copy of the state directory is put back: operations that had ended are resumed from a step in the middle, and
// nothing of a VM that has gone past that step is lost.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import type { VmRecord } from '../../../src/agent/host/hypervisor.ts'
import { attemptsMax } from '../../../src/agent/operations/engine.ts'
import type { JournalEntry } from '../../../src/agent/operations/journal.ts'
import type { CommandSubject } from '../../../src/protocol/command.ts'
import { type BackupBench, backUp, source, target, vm, wait } from '../backups/bench.ts'
import { begin, MemoryJournal } from '../verbs/bench.ts'
import { keepKeys, makeLifeBench, wrappedKeys } from './bench.ts'

const restored = { vm: 'web-2', uuid: '7d5ec2a4-4e0c-4d0f-8a9b-2f1c6e0a9b11', generation: 1 }
const itself = { vm, uuid: source, generation: 1_000_000 }

interface Case {
  readonly title: string
  readonly verb: string
  readonly subject: CommandSubject
  args(host: BackupBench): Record<string, unknown>
}

const made: Case = {
  title: 'vm.provision',
  verb: 'vm.provision',
  subject: { vm: 'web-2', uuid: restored.uuid, generation: 1 },
  args: ({ bench }) => ({
    specification: bench.specification({
      name: 'web-2',
      uuid: restored.uuid,
      dataDiskBytes: 2 * 1024 ** 2,
      seed: { hostname: 'web-2' }
    })
  })
}
const cases: readonly Case[] = [
  made,
  {
    title: 'vm.restore',
    verb: 'vm.restore',
    subject: restored,
    args: () => ({ target, source, snapshot: 'latest', vm: restored.vm, uuid: restored.uuid })
  },
  {
    title: 'vm.restore with replace',
    verb: 'vm.restore',
    subject: itself,
    args: () => ({ target, source, snapshot: 'latest', vm, uuid: source, replace: true })
  },
  {
    title: 'vm.restore with replace that leaves it off',
    verb: 'vm.restore',
    subject: itself,
    args: () => ({ target, source, snapshot: 'latest', vm, uuid: source, replace: true, start: false })
  },
  {
    title: 'vm.reimage',
    verb: 'vm.reimage',
    subject: itself,
    args: ({ bench }) => ({ vm, image: bench.image })
  }
]

/** What befell the VM after its operation had ended, or how the copy stands. */
const circumstances: Readonly<Record<string, (host: BackupBench, subject: CommandSubject) => void>> = {
  'that runs': () => undefined,
  'whose guest switched itself off': ({ bench }, subject) => {
    if (bench.hypervisor.calls.includes(`start ${subject.vm}`)) bench.hypervisor.shutDownGuest(subject.vm)
  },
  'that would not be ready again': ({ bench }) => {
    bench.hypervisor.guests.takesLease = false
    bench.hypervisor.onEvent(({ kind, name }) => {
      if (kind === 'started') bench.hypervisor.shutDownGuest(name)
    })
  }
}

describe('an older copy of the journal', () => {
  for (const each of cases)
    for (const [title, befalls] of Object.entries(circumstances))
      it(`loses nothing of a VM ${title}: ${each.title}`, async () => {
        await using host = await makeLifeBench()
        await backUp(host)
        const { copies, claims } = await carriedOut(host, each)
        await keepKeys(host)
        befalls(host, each.subject)
        const before = await stateOf(host, each.subject.vm)
        assert.ok(copies.length > 5, `${copies.length} copies`)
        for (const copy of copies)
          for (const attempts of [copy.attempts, attemptsMax]) {
            const journal = new MemoryJournal(claims)
            journal.entry = { ...copy, attempts }
            const { outcome } = begin(host.bench.restarted(), each.verb, claims.arguments, { from: journal })
            const about = `from step ${copy.step}, begun ${attempts} times: ${JSON.stringify(await outcome)}`
            assert.deepEqual(await stateOf(host, each.subject.vm), before, about)
          }
      })

  it('says of a VM that is made that it is', async () => {
    await using host = await makeLifeBench()
    const { copies, claims } = await carriedOut(host, made)
    for (const copy of copies) {
      const journal = new MemoryJournal(claims)
      journal.entry = copy
      const { outcome } = begin(host.bench.restarted(), made.verb, claims.arguments, { from: journal })
      assert.equal((await outcome).outcome, 'done', `from step ${copy.step}`)
    }
  })

  it('goes on with a VM that is on and was not ready yet, and removes no disk of it', async () => {
    await using host = await makeLifeBench()
    const { copies, claims } = await carriedOut(host, made)
    const { hypervisor } = host.bench
    for (const copy of copies.slice(0, -1)) {
      // As between its start and its being ready.
      await hypervisor.annotate('web-2', { wanted: 'stopped' }, wait())
      const before = (await stateOf(host, 'web-2')).leftovers
      const journal = new MemoryJournal(claims)
      journal.entry = copy
      const { outcome } = begin(host.bench.restarted(), made.verb, claims.arguments, { from: journal })
      assert.equal((await outcome).outcome, 'done', `from step ${copy.step}`)
      const after = await stateOf(host, 'web-2')
      assert.deepEqual([after.record.state, after.record.wanted], ['running', 'running'])
      assert.deepEqual(after.leftovers, before)
    }
  })

  it('removes no disks of a VM that is on', async () => {
    await using host = await makeLifeBench()
    await keepKeys(host)
    const before = await stateOf(host, vm)
    const removal = host.host.storage.removeDisks({ name: vm, uuid: source }, wait())
    await assert.rejects(removal, { code: 'E_CONFLICT', message: /web-1 is running/ })
    assert.deepEqual(await stateOf(host, vm), before)
  })
})

/** An operation that ended well, and what the journal said of it after each step. */
async function carriedOut(host: BackupBench, { verb, subject, args }: Case) {
  const claims = {
    id: randomUUID(),
    verb,
    audience: 'host-1',
    issuedAt: 1,
    expiresAt: 2,
    subject,
    arguments: args(host)
  }
  const journal = new MemoryJournal(claims)
  const copies: JournalEntry[] = [{ ...journal.entry, attempts: 1 }]
  const checkpoint = journal.checkpoint.bind(journal)
  journal.checkpoint = (id, step, notes) => {
    checkpoint(id, step, notes)
    copies.push(journal.entry)
  }
  const { outcome } = begin(host.host, verb, claims.arguments, { from: journal, subject })
  const end = await outcome
  assert.equal(end.outcome, 'done', JSON.stringify(end))
  return { copies, claims }
}

interface Seen {
  readonly record: Omit<VmRecord, 'run' | 'reason'>
  readonly leftovers: readonly string[]
  readonly keys: readonly string[]
  readonly removed: readonly string[]
}

async function stateOf(host: BackupBench, name: string): Promise<Seen> {
  const { hypervisor } = host.bench
  const found = await hypervisor.findVm(name, wait())
  assert.ok(found)
  const { run: _run, reason: _reason, ...record } = found
  const { rootVolume, dataVolume } = found.placement
  const losses = [
    `undefine ${name}`,
    ...[rootVolume, dataVolume].flatMap((volume) => [`removeVolume ${volume}`, `createImport ${volume}`])
  ]
  const removed = hypervisor.calls.filter((call) => losses.includes(call))
  return {
    record,
    leftovers: (await host.bench.leftovers()).sort(),
    keys: wrappedKeys(host).sort(),
    removed
  }
}
