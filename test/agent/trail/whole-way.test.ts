// The audit trail from end to end: a real scheduler, a real agent on a hypervisor in memory, and the program that reads both.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type Agent, startAgent } from '../../../src/agent/app.ts'
import { type AgentConfig, loadAgentConfig } from '../../../src/agent/config.ts'
import { MemoryNft } from '../../../src/agent/firewall/memory-nft.ts'
import { MemoryHypervisor } from '../../../src/agent/host/memory-hypervisor.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { createLogger } from '../../../src/lib/log-output.ts'
import type { CreatedToken, HostAudit, OperationReply } from '../../../src/protocol/api.ts'
import { type Scheduler, startScheduler } from '../../../src/scheduler/app.ts'
import { type Ended, hostlet } from '../../cli/program.ts'
import { ApiClient } from '../../scheduler/support/api-client.ts'
import { defaultConfig } from '../../scheduler/support/test-scheduler.ts'

interface Listed {
  readonly entries: readonly Readonly<Record<string, unknown>>[]
}

describe('the audit trail', { timeout: 40_000 }, () => {
  let root: string
  let scheduler: Scheduler
  let api: ApiClient
  let config: AgentConfig
  let environment: Record<string, string>
  let agent: Agent | undefined
  const lines: string[] = []

  before(async () => {
    root = mkdtempSync('/dev/shm/hostlet-trail-')
    const schedulerConfig = defaultConfig(join(root, 'scheduler'))
    scheduler = await startScheduler(schedulerConfig, { clock: systemClock, log: silentLogger })
    const { url, caFile, adminKeyFile } = scheduler
    environment = {
      ...{ HOSTLET_SCHEDULER: url, HOSTLET_CA_FILE: caFile, HOSTLET_API_KEY_FILE: adminKeyFile }
    }
    api = new ApiClient({ url, caFile, key: readFileSync(adminKeyFile, 'utf8').trim() })
    const path = join(root, 'agent.yaml')
    const directories = { stateDirectory: join(root, 'state'), runtimeDirectory: join(root, 'run') }
    writeFileSync(path, JSON.stringify(directories))
    config = loadAgentConfig(path, {})
  })
  after(async () => {
    await agent?.stop()
    await scheduler.stop()
    rmSync(root, { recursive: true })
  })

  const run = (...words: readonly string[]): Promise<Ended> =>
    hostlet([...words, '--config', join(root, 'agent.yaml')], environment)
  const audit = (...words: readonly string[]): Promise<Ended> => run('audit', ...words)

  async function start(): Promise<void> {
    const hypervisor = new MemoryHypervisor({ clock: systemClock })
    const stream = { write: (line: string) => lines.push(line) }
    const log = createLogger({ format: 'journal', level: 'info', stream })
    agent = await startAgent(config, { hypervisor, log, nft: new MemoryNft() })
  }

  /** Asks until it holds; the test's own deadline ends what never does. */
  async function until<Value>(look: () => Promise<Value | undefined>): Promise<Value> {
    for (;;) {
      const value = await look()
      if (value !== undefined) return value
      await systemClock.sleep(20)
    }
  }

  const connected = () =>
    until(async () => {
      const { hosts } = await api.get<{ hosts: { id: string; state: string }[] }>('/v1/hosts')
      return hosts.find(({ state }) => state === 'connected')?.id
    })
  const receiptFor = (host: string, seq: number) =>
    until(async () => {
      const { heads } = await api.get<HostAudit>(`/v1/hosts/${host}/audit`)
      return heads.find((head) => head.seq >= seq)
    })
  const ended = ({ operation }: OperationReply) =>
    api.get<OperationReply>(`/v1/operations/${operation.id}/wait?timeoutMs=20000`)

  it('has the enrollment, the start, and what a command did, on the host and at the scheduler', async () => {
    const { token, caHash } = await api.post<CreatedToken>('/v1/tokens')
    const words = ['enroll', '--scheduler', scheduler.url, '--ca-hash', caHash, '--token', token]
    const enrolled = await run(...words)
    assert.equal(enrolled.status, 0, enrolled.stderr)
    const waiting = JSON.parse((await audit('ls', '-o', 'json')).stdout) as Listed
    assert.deepEqual(
      waiting.entries.map(({ kind, action, message }) => [kind, action, String(message).slice(0, 20)]),
      [['local', 'enroll', 'not in the chain yet']]
    )
    await start()
    const host = await connected()
    const done = await ended(await api.post<OperationReply>(`/v1/hosts/${host}/refresh`))
    assert.equal(done.operation.state, 'done', JSON.stringify(done))
    const listed = JSON.parse((await audit('ls', '-o', 'json')).stdout) as Listed
    const kinds = listed.entries.map(({ kind }) => kind)
    assert.ok(kinds.includes('agent.started') && kinds.includes('trust'), kinds.join())
    const local = listed.entries.find(({ kind }) => kind === 'local')
    assert.deepEqual([local?.action, local?.outcome, local?.uid], ['enroll', 'done', process.getuid?.()])
    const accepted = listed.entries.find(({ command }) => command === done.operation.id)
    assert.deepEqual([accepted?.kind, accepted?.verb], ['command.accepted', 'host.facts'])
    const calls = JSON.parse((await audit('ls', '--scheduler', '-o', 'json')).stdout) as Listed
    const call = calls.entries.find(({ operation }) => operation === done.operation.id)
    assert.deepEqual(
      [call?.method, call?.route, call?.object, call?.status, call?.from],
      ['POST', '/v1/hosts/:id/refresh', host, 202, '127.0.0.1']
    )
    assert.ok(!(await audit('export')).stdout.includes(token))
  })

  it('is countersigned, found whole while the agent runs, and agrees with the scheduler', async () => {
    const host = await connected()
    const verified = JSON.parse((await audit('verify', '-o', 'json')).stdout)
    await receiptFor(host, verified.trail.entries - 1)
    const both = await audit('verify', '--scheduler')
    assert.equal(both.status, 0, both.stdout + both.stderr)
    assert.match(both.stdout, /Audit trail of .*: whole/)
    assert.match(both.stdout, /it agrees in [1-9]\d* heads/)
    assert.match(both.stdout, /Audit of the scheduler: whole/)
  })
})
