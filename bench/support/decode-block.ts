// How long decoding keeps the event loop: of a warm connection that gets reply after reply, and of a process's first reply.

import { execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { connect, connectGetAllDomainStats } from 'node-libvirt'

const run = promisify(execFile)

interface Blocks {
  /** One for each reply: the longest pause of the event loop while it came. */
  readonly perReplyMs: readonly number[]
  readonly longestMs: number
}

/** Asks a server in another process for the same reply again and again, and watches this process's event loop meanwhile. */
export async function blocksOf({ reply, replies }: { reply: Uint8Array; replies: number }): Promise<Blocks> {
  using directory = temporaryDirectory()
  const socket = join(directory.path, 'socket')
  const payload = join(directory.path, 'reply')
  writeFileSync(payload, reply)
  const server = fork(join(import.meta.dirname, 'reply-server.ts'), [socket, payload])
  try {
    await once(server, 'message')
    await using connection = await connect(`test:///default?socket=${socket}`, { keepAlive: false })
    const perReplyMs: number[] = []
    for (let count = 0; count < replies; count++) {
      const call = connection.call(connectGetAllDomainStats, { domains: [], groups: 0, flags: 0 })
      perReplyMs.push(await longestPauseUntil(call))
    }
    return { perReplyMs, longestMs: Math.max(...perReplyMs) }
  } finally {
    server.kill()
  }
}

/** The longest time between two turns of the event loop, which never waits as it always has one more turn to make. */
async function longestPauseUntil(work: Promise<unknown>): Promise<number> {
  let longestMs = 0
  let last = performance.now()
  let going = true
  const turn = () => {
    const now = performance.now()
    longestMs = Math.max(longestMs, now - last)
    last = now
    if (going) setImmediate(turn)
  }
  setImmediate(turn)
  await work
  // The turn in which the reply came counts as well.
  await new Promise((resolve) => setImmediate(resolve))
  going = false
  return longestMs
}

/** Each in a process of its own that has decoded nothing before. */
export async function firstDecodesMs({
  reply,
  times
}: {
  reply: Uint8Array
  times: number
}): Promise<number[]> {
  using directory = temporaryDirectory()
  const payload = join(directory.path, 'reply')
  writeFileSync(payload, reply)
  const durationsMs: number[] = []
  for (let count = 0; count < times; count++) {
    const program = join(import.meta.dirname, 'first-decode.ts')
    const { stdout } = await run(process.execPath, [program, payload])
    durationsMs.push(Number(stdout))
  }
  return durationsMs
}

function temporaryDirectory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'hostlet-bench-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}
