// The trail as the agent uses it: commands of a real dispatcher, floods, records that wait for the disk, and receipts.

import assert from 'node:assert/strict'
import {
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync
} from 'node:fs'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { SignedCommand } from '../../../src/agent/operations/gate.ts'
import { recordedAction } from '../../../src/agent/trail/local-actions.ts'
import { headIntervalMs, refusedIntervalMs } from '../../../src/agent/trail/receipts.ts'
import { looksMax, refusalWindowMs, Trail, unknownRefusalsMax } from '../../../src/agent/trail/trail.ts'
import { verifyTrail } from '../../../src/agent/trail/verify-trail.ts'
import { HostletError } from '../../../src/errors.ts'
import { type ChainEntry, type Link, openLine } from '../../../src/lib/chain.ts'
import type { CommandKey } from '../../../src/protocol/enrollment.ts'
import type { AgentMessage, AgentMessageOf } from '../../../src/protocol/messages.ts'
import { receiptJwsType } from '../../../src/protocol/trail.ts'
import { RecordingLog } from '../../scheduler/support/recording-log.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { claimsOf, createSigner, type Signer } from '../../support/signed-commands.ts'

const hostId = 'host-1'

describe('the trail', () => {
  let root: string
  let state: string
  let signer: Signer
  let keys: readonly CommandKey[]
  let clock: FakeClock
  let log: RecordingLog
  let sent: AgentMessage[]
  let host: string

  before(async () => {
    root = mkdtempSync('/dev/shm/hostlet-trail-')
    signer = await createSigner()
  })
  after(() => rmSync(root, { recursive: true }))
  beforeEach(() => {
    state = mkdtempSync(join(root, 'state-'))
    keys = [signer.publicKey]
    clock = new FakeClock()
    log = new RecordingLog()
    sent = []
    host = hostId
  })

  const open = () =>
    Trail.open({ stateDirectory: state, identity: () => ({ hostId: host, commandKeys: keys }), clock, log })
  const directory = () => join(state, 'audit')
  const segments = () => readdirSync(directory()).filter((name) => name.endsWith('.jsonl'))
  function entries(): ChainEntry[] {
    const text = segments().map((name) => readFileSync(join(directory(), name), 'utf8'))
    return text
      .join('')
      .split('\n')
      .flatMap((line) => openLine(Buffer.from(line)) ?? [])
  }
  const kinds = () => entries().map(({ kind }) => kind)
  const heads = () =>
    sent.filter((message): message is AgentMessageOf<'audit-head'> => message.type === 'audit-head')
  /** Until it is on disk: the disk takes its own time. */
  async function until(holds: () => boolean): Promise<void> {
    while (!holds()) await turn()
  }
  const receiptOf = ({ seq, hash }: { seq: number; hash: string }, by = signer, of = host) =>
    by.sign({ host: of, seq, hash, at: clock.now() }, { typ: receiptJwsType })
  async function receive(trail: Trail, head: { seq: number; hash: string } | undefined): Promise<void> {
    assert.ok(head)
    await trail.takeAnswer({ type: 'audit-receipt', jws: await receiptOf(head) })
  }
  const command = (): SignedCommand => ({
    claims: claimsOf(clock.now(), { arguments: { vm: 'web-1', secret: 'canary-17' } }),
    digest: 'd'.repeat(64),
    signer: 'key-1',
    approvals: [`${Buffer.from('{"kid":"officer-1"}').toString('base64url')}.e30.c2ln`]
  })

  it('says of a command who signed it, who approved, what was decided and how it ended, and not what it carried', async () => {
    await using trail = await open()
    const signed = command()
    const { id } = signed.claims
    const error = new HostletError('E_STALE', 'generation 1 was taken').toReport()
    await trail.note({ kind: 'accepted', command: signed, approvers: ['alice'] })
    await trail.note({ kind: 'accepted', command: signed })
    await trail.note({ kind: 'refused', command: signed, error })
    const times = { startedAt: clock.now(), finishedAt: clock.now() + 1_500 }
    await trail.note({
      kind: 'ended',
      claims: signed.claims,
      result: { command: id, outcome: 'failed', error, ...times }
    })
    const [accepted, alone, refused, ended] = entries().slice(-4)
    assert.deepEqual(
      [
        accepted?.kind,
        accepted?.command,
        accepted?.verb,
        accepted?.vm,
        accepted?.generation,
        accepted?.signer
      ],
      ['command.accepted', id, 'test.change', 'web-1', 1, 'key-1']
    )
    assert.deepEqual([accepted?.approvers, accepted?.digest], [['alice'], 'd'.repeat(64)])
    // Who says so in a signature that nobody looked at is nobody.
    assert.deepEqual([alone?.approvers, refused?.approvers], [undefined, undefined])
    assert.deepEqual([refused?.kind, refused?.decision], ['command.refused', 'E_STALE'])
    assert.deepEqual(
      [ended?.kind, ended?.outcome, ended?.code, ended?.durationMs],
      ['operation.ended', 'failed', 'E_STALE', 1_500]
    )
    assert.ok(!JSON.stringify(entries()).includes('canary-17'))
  })

  it('counts a flood of what nobody signed instead of filling the disk with it', async () => {
    await using trail = await open()
    const error = new HostletError('E_AUTH', 'no').toReport()
    for (let count = 0; count < unknownRefusalsMax + 4_312; count++)
      await trail.note({ kind: 'refused', command: undefined, error })
    assert.equal(kinds().filter((kind) => kind === 'command.refused').length, unknownRefusalsMax)
    await clock.advance(refusalWindowMs)
    await until(() => kinds().includes('command.refused-more'))
    assert.equal(entries().find(({ kind }) => kind === 'command.refused-more')?.count, 4_312)
    await trail.note({ kind: 'refused', command: undefined, error })
    assert.equal(kinds().filter((kind) => kind === 'command.refused').length, unknownRefusalsMax + 1)
    // A known signer's refusal is written down whatever else floods.
    await trail.note({ kind: 'refused', command: command(), error })
    assert.equal(entries().at(-1)?.signer, 'key-1')
  })

  it('counts a flood of looks, with their ends, and nothing that has an effect', async () => {
    await using trail = await open()
    const [result, flood] = [{ outcome: 'done', startedAt: 1, finishedAt: 2 } as const, looksMax + 500]
    const look = async () => {
      const asked = command()
      const { id } = asked.claims
      await trail.note({ kind: 'accepted', command: asked, looks: true })
      await trail.note({
        kind: 'ended',
        claims: asked.claims,
        result: { command: id, ...result },
        looks: true
      })
    }
    for (let count = 0; count < flood; count++) await look()
    for (let count = 0; count < looksMax; count++) await trail.note({ kind: 'accepted', command: command() })
    const written = (kind: string) => kinds().filter((each) => each === kind).length
    assert.deepEqual([written('command.accepted'), written('operation.ended')], [2 * looksMax, looksMax])
    await clock.advance(refusalWindowMs)
    await until(() => kinds().includes('command.looks-more'))
    const more = entries().find(({ kind }) => kind === 'command.looks-more')
    assert.deepEqual([more?.of, more?.count], ['key-1', 500])
    await look()
    assert.equal(written('operation.ended'), looksMax + 1)
  })

  it('takes in what the command line did while it ran and while it did not, once each', async () => {
    const act = (action: string) =>
      recordedAction(
        { stateDirectory: state, action, environment: { SUDO_USER: 'ada' }, now: () => clock.now() },
        async () => undefined
      )
    await act('enroll')
    await using trail = await open()
    const local = () => entries().filter(({ kind }) => kind === 'local')
    assert.deepEqual(
      local().map(({ action, outcome, sudoUser, uid }) => [action, outcome, sudoUser, uid]),
      [['enroll', 'done', 'ada', process.getuid?.()]]
    )
    await assert.rejects(
      recordedAction(
        { stateDirectory: state, action: 'doctor --fix', environment: {}, now: () => clock.now() },
        async () => {
          throw new HostletError('E_NOT_FOUND', 'nothing to mend')
        }
      ),
      { code: 'E_NOT_FOUND' }
    )
    await trail.look()
    await until(() => local().at(-1)?.outcome === 'failed')
    assert.deepEqual([local().at(-1)?.action, local().at(-1)?.code], ['doctor --fix', 'E_NOT_FOUND'])
    writeFileSync(join(directory(), 'local', 'odd.json'), '{"action":"forged"}')
    await trail.look()
    await until(() => local().at(-1)?.action === 'unreadable')
    assert.equal(local().at(-1)?.file, 'odd.json')
    assert.deepEqual(readdirSync(join(directory(), 'local')), [])
  })

  it('can read what root did, where the state directory is of another user', {
    skip: process.getuid?.() !== 0 && 'only root can give files away'
  }, async () => {
    chownSync(state, 65_534, 65_534)
    await recordedAction(
      { stateDirectory: state, action: 'enroll', environment: {}, now: () => clock.now() },
      async () => undefined
    )
    const local = join(directory(), 'local')
    for (const path of [directory(), local, join(local, readdirSync(local)[0] ?? '')])
      assert.equal(statSync(path).uid, 65_534, path)
  })

  it('leads root nowhere else: a link in the place of its directory is not followed', async () => {
    const elsewhere = mkdtempSync(join(root, 'elsewhere-'))
    mkdirSync(directory(), { recursive: true })
    symlinkSync(elsewhere, join(directory(), 'local'))
    let acted = false
    const action = { stateDirectory: state, action: 'enroll', environment: {}, now: () => clock.now() }
    await assert.rejects(
      recordedAction(action, async () => {
        acted = true
      }),
      { code: 'E_UNAVAILABLE', message: /ENOTDIR/ }
    )
    assert.deepEqual([acted, readdirSync(elsewhere)], [false, []])
  })

  describe('with its scheduler', () => {
    const online = (trail: Trail) => trail.online((message) => sent.push(message))

    it('tells its head, takes the receipt in, and asks for none of that', async () => {
      await using trail = await open()
      await until(() => trail.tail.seq >= 2)
      online(trail)
      assert.deepEqual(heads(), [{ type: 'audit-head', ...trail.tail }])
      await receive(trail, heads()[0])
      assert.equal(entries().at(-1)?.kind, 'receipt')
      await clock.advance(10 * headIntervalMs)
      assert.equal(heads().length, 1)
      // Another connection has it told again, and needs no entry for the answer.
      online(trail)
      const count = entries().length
      await receive(trail, heads()[1])
      assert.equal(entries().length, count)
      const report = await verifyTrail({ directory: directory(), keys })
      assert.deepEqual([report.fault, report.receipts], [undefined, 1])
    })

    it('tells of many changes in one head every few seconds', async () => {
      await using trail = await open()
      await until(() => trail.tail.seq >= 2)
      online(trail)
      await receive(trail, heads()[0])
      for (let count = 0; count < 50; count++) await trail.note({ kind: 'accepted', command: command() })
      await clock.advance(headIntervalMs)
      assert.equal(heads().length, 2)
      assert.deepEqual(heads()[1]?.earlier, { seq: heads()[0]?.seq, hash: heads()[0]?.hash })
    })

    it('believes no receipt that is forged, of another host, or of another entry', async () => {
      await using trail = await open()
      await until(() => trail.tail.seq >= 2)
      online(trail)
      const [head] = heads()
      assert.ok(head)
      const { seq, hash } = head
      const good = await receiptOf(head)
      const [header = '', payload = ''] = good.split('.')
      for (const jws of [
        await receiptOf(head, await createSigner('key-2')),
        await receiptOf(head, await createSigner()),
        await receiptOf(head, signer, 'host-2'),
        await receiptOf({ seq, hash: 'f'.repeat(64) }),
        await receiptOf({ seq: seq + 1, hash }),
        await signer.sign({ host: hostId, seq, hash, at: 1 }),
        `${header}.${payload}.`,
        `${Buffer.from('{"alg":"none","typ":"hostlet-receipt+jwt"}').toString('base64url')}.${payload}.x`
      ])
        await trail.takeAnswer({ type: 'audit-receipt', jws })
      assert.ok(!kinds().includes('receipt'))
      assert.equal(log.entries.filter(({ message }) => message.includes('of no use')).length, 8)
      await trail.takeAnswer({ type: 'audit-receipt', jws: good })
      assert.ok(kinds().includes('receipt'))
    })

    it('answers what it is asked from its files', async () => {
      await using trail = await open()
      await until(() => trail.tail.seq >= 2)
      online(trail)
      await trail.takeAnswer({ type: 'audit-question', seq: 1 })
      assert.deepEqual(heads().at(-1)?.earlier, { seq: 1, hash: entries()[0]?.hash })
      await clock.advance(headIntervalMs)
      await trail.takeAnswer({ type: 'audit-question', seq: 99 })
      assert.deepEqual(heads().at(-1)?.earlier, { seq: 99, hash: null })
    })

    it('answers one question every few seconds, the newest, however many are asked', async () => {
      await using trail = await open()
      await until(() => trail.tail.seq >= 2)
      online(trail)
      const before = heads().length
      const ask = (seq: number) => trail.takeAnswer({ type: 'audit-question', seq })
      await Promise.all(Array.from({ length: 100 }, (_, index) => ask(99 - index)))
      assert.equal(heads().length, before + 1)
      await clock.advance(headIntervalMs - 1)
      assert.equal(heads().length, before + 1)
      await clock.advance(1)
      await until(() => heads().length > before + 1)
      assert.deepEqual(heads().at(-1)?.earlier, { seq: 0, hash: null })
      await clock.advance(10 * headIntervalMs)
      assert.equal(heads().length, before + 2)
    })

    it('raises a condition when it is refused, writes it down once, and is well again with a receipt', async () => {
      await using trail = await open()
      await until(() => trail.tail.seq >= 2)
      online(trail)
      const error = new HostletError('E_CONFLICT', 'it was written anew').toReport()
      for (let count = 0; count < 3; count++) await trail.takeAnswer({ type: 'audit-refusal', seq: 2, error })
      assert.equal(kinds().filter((kind) => kind === 'receipt.refused').length, 1)
      assert.match(trail.fault() ?? '', /written anew/)
      // An admin may have accepted it meanwhile.
      const count = heads().length
      await clock.advance(refusedIntervalMs)
      assert.equal(heads().length, count + 1)
      await receive(trail, heads().at(-1))
      assert.equal(trail.fault(), undefined)
    })

    it('keeps the keys that it trusted, so that old receipts are good after the key was changed', async () => {
      const next = await createSigner('key-2')
      {
        await using trail = await open()
        await until(() => trail.tail.seq >= 2)
        online(trail)
        await receive(trail, heads()[0])
        keys = [next.publicKey]
        trail.noteIdentity()
        await until(() => trail.tail.seq >= 4)
        online(trail)
        const head = heads().at(-1)
        assert.ok(head)
        await trail.takeAnswer({ type: 'audit-receipt', jws: await receiptOf(head, next) })
      }
      const report = await verifyTrail({ directory: directory(), keys: [next.publicKey] })
      assert.deepEqual([report.fault, report.receipts], [undefined, 2])
      assert.equal(kinds().filter((kind) => kind === 'trust').length, 2)
    })

    it('stays whole when the host enrolls anew under another name', async () => {
      for (const name of ['host-1', 'host-2']) {
        host = name
        const before = existsSync(directory()) ? entries().length : 0
        await using trail = await open()
        await until(() => trail.tail.seq > before + (before === 0 ? 1 : 0))
        online(trail)
        await receive(trail, heads().at(-1))
      }
      const report = await verifyTrail({ directory: directory(), keys, hostId: 'host-2' })
      assert.deepEqual([report.fault, report.receipts], [undefined, 2])
    })

    it('is found cut off at the end of an entry by the receipt beside it, and by what the scheduler holds', async () => {
      const held: Link[] = []
      {
        await using trail = await open()
        await until(() => trail.tail.seq >= 2)
        online(trail)
        await receive(trail, heads()[0])
        await trail.note({ kind: 'accepted', command: command() })
        await clock.advance(headIntervalMs)
        const { type: _type, earlier: _earlier, ...head } = heads().at(-1) ?? assert.fail()
        held.push(head)
        await receive(trail, head)
      }
      const file = join(directory(), segments()[0] ?? '')
      const lines = readFileSync(file, 'utf8').trimEnd().split('\n')
      for (let kept = 1; kept < lines.length; kept++) {
        const copy = join(root, `cut-${kept}`)
        cpSync(directory(), copy, { recursive: true })
        const text = lines.slice(0, kept).map((line) => `${line}\n`)
        writeFileSync(join(copy, segments()[0] ?? ''), text.join(''))
        const seen = await verifyTrail({ directory: copy, keys })
        const isBehind = kept < (held[0]?.seq ?? 0)
        assert.equal(seen.fault?.kind, isBehind ? 'truncated' : undefined, `${kept}: ${seen.fault?.message}`)
        if (isBehind) {
          const offset = Buffer.byteLength(text.join(''))
          const at = { file: segments()[0], line: kept + 1, offset }
          assert.deepEqual({ file: seen.fault?.file, line: seen.fault?.line, offset: seen.fault?.offset }, at)
        }
        // Whoever takes that receipt away as well has the scheduler to reckon with.
        unlinkSync(join(copy, 'receipt.jws'))
        const { fault } = await verifyTrail({ directory: copy, keys, held })
        const hasReceipt = lines.slice(0, kept).some((line) => line.includes('"kind":"receipt"'))
        assert.equal(fault?.kind, hasReceipt ? 'removed' : isBehind ? 'truncated' : undefined)
      }
    })

    it('notices at its start that its end is gone', async () => {
      {
        await using trail = await open()
        await until(() => trail.tail.seq >= 2)
        online(trail)
        await receive(trail, heads()[0])
      }
      const file = join(directory(), segments()[0] ?? '')
      const [first] = readFileSync(file, 'utf8').split('\n')
      writeFileSync(file, `${first}\n`)
      await using trail = await open()
      assert.match(trail.fault() ?? '', /ends with entry 1, and the scheduler has signed for entry 2/)
      assert.equal(entries()[1]?.kind, 'trail.fault')
    })
  })
})
