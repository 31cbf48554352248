// What a start finds after a power loss at any byte, and after somebody was at the files.

import assert from 'node:assert/strict'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync
} from 'node:fs'
import { type FileHandle, open as openFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { recoverTrail } from '../../../src/agent/trail/recover.ts'
import { hardFactor, youngMs } from '../../../src/agent/trail/retention.ts'
import { Trail } from '../../../src/agent/trail/trail.ts'
import { verifyTrail } from '../../../src/agent/trail/verify-trail.ts'
import { type ChainEntry, openLine } from '../../../src/lib/chain.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { runProcess } from '../../../src/lib/run-process.ts'
import { contentOf, madeTrail } from './made-trail.ts'

describe('a trail after a crash', () => {
  let root: string
  let count = 0
  before(() => {
    root = mkdtempSync('/dev/shm/hostlet-trail-')
  })
  after(() => rmSync(root, { recursive: true }))

  const stateWith = (contents: Readonly<Record<string, Buffer>>): string => {
    const state = join(root, String(count++))
    mkdirSync(join(state, 'audit'), { recursive: true })
    for (const [name, content] of Object.entries(contents)) writeFileSync(join(state, 'audit', name), content)
    return state
  }
  const open = (stateDirectory: string) =>
    Trail.open({
      stateDirectory,
      identity: () => ({ hostId: 'host-1', commandKeys: [] }),
      clock: systemClock,
      log: silentLogger
    })
  const entriesIn = (state: string): (ChainEntry | undefined)[] =>
    readdirSync(join(state, 'audit'))
      .filter((name) => name.endsWith('.jsonl'))
      .sort()
      .flatMap((name) =>
        readFileSync(join(state, 'audit', name), 'utf8')
          .trimEnd()
          .split('\n')
      )
      .map((line) => openLine(Buffer.from(line)))

  it('has every entry that was whole wherever power was lost, says what was cut off, and is whole again', async () => {
    const { files, links } = madeTrail([2, 3])
    const [first, last] = files
    assert.ok(first && last)
    const content = contentOf(last)
    const ends = last.lines.map((_, index) =>
      last.lines.slice(0, index + 1).reduce((sum, line) => sum + line.length + 1, 0)
    )
    for (let length = 0; length <= content.length; length++) {
      const cut = content.subarray(0, length)
      const state = stateWith({ [first.name]: contentOf(first), [last.name]: cut })
      const { tail, torn, segment } = await recoverTrail(join(state, 'audit'))
      const whole = ends.filter((end) => end <= length)
      assert.deepEqual(tail, links[1 + whole.length], `cut at ${length}`)
      assert.equal(segment?.bytes, whole.at(-1) ?? 0)
      const rest = length - (whole.at(-1) ?? 0)
      assert.equal(torn?.bytes, rest === 0 ? undefined : rest)
      if (torn !== undefined)
        assert.deepEqual(readFileSync(join(state, 'audit', 'torn.pending')), cut.subarray(length - rest))
    }
  })

  it('has on the disk what it goes on from, before anybody is told of it', async (t) => {
    const { files } = madeTrail([2, 3])
    const state = stateWith(Object.fromEntries(files.map((file) => [file.name, contentOf(file)])))
    const last = join(state, 'audit', files.at(-1)?.name ?? '')
    const handle = await openFile(last)
    const kind = Object.getPrototypeOf(handle) as FileHandle
    await handle.close()
    const synced: number[] = []
    const sync = kind.sync
    t.mock.method(kind, 'sync', async function (this: FileHandle) {
      synced.push((await this.stat()).ino)
      await sync.call(this)
    })
    await recoverTrail(join(state, 'audit'))
    assert.deepEqual(synced, [statSync(last).ino, statSync(join(state, 'audit')).ino])
  })

  it('notes what was cut off in the chain, and keeps the bytes beside it', async () => {
    const { files } = madeTrail([3])
    const content = contentOf(files[0] ?? { name: '', lines: [] })
    const state = stateWith({ '00000001.jsonl': content.subarray(0, -7) })
    {
      await using _trail = await open(state)
    }
    const entries = entriesIn(state)
    const torn = entries.find((entry) => entry?.kind === 'trail.torn')
    assert.equal(torn?.seq, 3)
    const kept = readFileSync(join(state, 'audit', 'torn-3.bin'))
    assert.equal(kept.length, torn?.bytes)
    assert.equal(content.subarray(0, -7).subarray(-kept.length).toString(), kept.toString())
    const report = await verifyTrail({ directory: join(state, 'audit'), keys: [] })
    assert.deepEqual([report.fault, report.torn], [undefined, ['torn-3.bin']])
  })

  it('notes it although it crashed between cutting and noting', async () => {
    const { files } = madeTrail([3])
    const content = contentOf(files[0] ?? { name: '', lines: [] })
    const state = stateWith({ '00000001.jsonl': content.subarray(0, -7) })
    await recoverTrail(join(state, 'audit'))
    {
      await using _trail = await open(state)
    }
    assert.equal(entriesIn(state).filter((entry) => entry?.kind === 'trail.torn').length, 1)
    assert.ok(readdirSync(join(state, 'audit')).includes('torn-3.bin'))
  })

  it('says how the last run ended', async () => {
    const state = join(root, String(count++))
    const previous = (of: string) =>
      entriesIn(of)
        .filter((entry) => entry?.kind === 'agent.started')
        .at(-1)?.previous
    const killed = `${state}-killed`
    {
      await using _trail = await open(state)
      assert.equal(previous(state), 'none')
      // What a SIGKILL now would leave: nothing says goodbye.
      cpSync(state, killed, { recursive: true })
    }
    for (const [of, how] of [
      [state, 'clean'],
      [killed, 'unclean']
    ] as const) {
      await using _trail = await open(of)
      assert.equal(previous(of), how)
    }
  })

  it('leaves what somebody changed as it is, goes on behind it, and tells', async () => {
    const { files } = madeTrail([4])
    const content = contentOf(files[0] ?? { name: '', lines: [] })
    const line = content.indexOf('web-2')
    content[line] = 'W'.charCodeAt(0)
    const state = stateWith({ '00000001.jsonl': content })
    {
      await using trail = await open(state)
      assert.match(trail.fault() ?? '', /not whole: entry 2 is not what its hash says/)
    }
    const after = readFileSync(join(state, 'audit', '00000001.jsonl'))
    assert.deepEqual(after.subarray(0, content.length), content)
    const noted = entriesIn(state).find((entry) => entry?.kind === 'trail.fault')
    assert.deepEqual([noted?.seq, noted?.fault, noted?.line], [5, 'changed', 2])
    const { fault } = await verifyTrail({ directory: join(state, 'audit'), keys: [] })
    assert.deepEqual([fault?.kind, fault?.line], ['changed', 2])
  })
})

describe('how much of a trail is kept', () => {
  it('is whole files, the oldest go, and what says so is what a check wants to see', async () => {
    const root = mkdtempSync('/dev/shm/hostlet-trail-')
    try {
      const directory = join(root, 'audit')
      mkdirSync(directory)
      const { files } = madeTrail([5, 5, 5])
      for (const file of files) writeFileSync(join(directory, file.name), contentOf(file))
      // Longer ago than the days within which nothing goes.
      const then = (Date.now() - youngMs) / 1_000 - 60
      for (const { name } of files) utimesSync(join(directory, name), then, then)
      const [first, second, third] = files.map(contentOf)
      assert.ok(first && second && third)
      const open = (keepBytes: number) =>
        Trail.open({
          stateDirectory: root,
          identity: () => ({ hostId: 'host-1', commandKeys: [] }),
          clock: systemClock,
          log: silentLogger,
          keepBytes
        })
      {
        await using _trail = await open(second.length + third.length + 1_000)
      }
      const names = () => readdirSync(directory).filter((name) => name.endsWith('.jsonl'))
      assert.deepEqual(names(), ['00000006.jsonl', '00000011.jsonl'])
      const report = await verifyTrail({ directory, keys: [] })
      assert.deepEqual([report.fault, report.pruned], [undefined, 5])
      // A file more is gone than the trail says.
      rmSync(join(directory, '00000006.jsonl'))
      const { fault } = await verifyTrail({ directory, keys: [] })
      assert.deepEqual([fault?.kind, fault?.file, fault?.line], ['removed', '00000011.jsonl', 1])
    } finally {
      rmSync(root, { recursive: true })
    }
  })
})

describe('a trail that grows fast', () => {
  it('loses nothing of the last days to its bound, and says so when it has to', async () => {
    const root = mkdtempSync('/dev/shm/hostlet-trail-')
    try {
      const directory = join(root, 'audit')
      mkdirSync(directory)
      const { files } = madeTrail([50, 50, 50])
      for (const file of files) writeFileSync(join(directory, file.name), contentOf(file))
      const bytes = files.reduce((sum, file) => sum + contentOf(file).length, 0)
      const opened = async (keepBytes: number) => {
        await using trail = await Trail.open({
          stateDirectory: root,
          identity: () => ({ hostId: 'host-1', commandKeys: [] }),
          ...{ clock: systemClock, log: silentLogger, keepBytes }
        })
        return trail.fault()
      }
      const names = () => readdirSync(directory).filter((name) => name.endsWith('.jsonl'))
      assert.equal(await opened(Math.ceil(bytes / 3)), undefined)
      assert.equal(names().length, 3)
      assert.match(String(await opened(Math.floor(bytes / hardFactor / 2))), /grew so fast.*audit\.keepBytes/)
      assert.equal(names().length, 1)
      assert.equal((await verifyTrail({ directory, keys: [] })).fault, undefined)
    } finally {
      rmSync(root, { recursive: true })
    }
  })
})

describe('a trail on a full disk', () => {
  it('refuses commands, lets the agent start, and has all that it acknowledged once there is room', async (test) => {
    const mount = 'mount -t tmpfs -o size=400k tmpfs "$1" && exec "$2" "$3" "$1"'
    const script = join(import.meta.dirname, 'full-child.ts')
    const directory = mkdtempSync('/dev/shm/hostlet-trail-')
    try {
      const { signal } = new AbortController()
      const args = ['--mount', 'sh', '-c', mount, 'sh', directory, process.execPath, script]
      const { exitCode, stdout, stderr } = await runProcess('unshare', args, { signal, deadlineMs: 60_000 })
      if (/not permitted|denied/.test(stderr)) return test.skip('mounting is not permitted here')
      assert.equal(exitCode, 0, stderr)
      const { acknowledged, accepted, told, ...rest } = JSON.parse(stdout)
      assert.ok(acknowledged > 0)
      assert.match(told, /commands are refused: the disk of the audit trail .* is full/)
      assert.deepEqual(
        [accepted, rest],
        [
          acknowledged + 1,
          { refused: 'E_CAPACITY', stillRefused: 'E_CAPACITY', after: 'done', torn: true, fault: null }
        ]
      )
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})
