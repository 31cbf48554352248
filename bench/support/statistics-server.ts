// Starts the stand-in for libvirtd that answers with one prepared reply, in a process of its own.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface StatisticsServer extends Disposable {
  readonly uri: string
}

export async function startStatisticsServer(reply: Uint8Array): Promise<StatisticsServer> {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-bench-'))
  const socket = join(directory, 'socket')
  const payload = join(directory, 'reply')
  writeFileSync(payload, reply)
  const server = fork(join(import.meta.dirname, 'reply-server.ts'), [socket, payload])
  const stop = () => {
    server.kill()
    rmSync(directory, { recursive: true, force: true })
  }
  const [first] = await Promise.race([once(server, 'message'), once(server, 'exit')])
  if (first === 'ready') return { uri: `test:///default?socket=${socket}`, [Symbol.dispose]: stop }
  stop()
  throw new Error(`the stand-in for libvirtd ended with status ${first}`)
}
