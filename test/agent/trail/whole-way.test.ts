// The audit trail from end to end: a real scheduler, a real agent on a hypervisor in memory, and the program that reads both.

import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type Agent, startAgent } from '../../../src/agent/app.ts'
import { type AgentConfig, loadAgentConfig } from '../../../src/agent/config.ts'
import { MemoryNft } from '../../../src/agent/firewall/memory-nft.ts'
import { MemoryHypervisor } from '../../../src/agent/host/memory-hypervisor.ts'
import { verifyTrail } from '../../../src/agent/trail/verify-trail.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { createLogger } from '../../../src/lib/log-output.ts'
import type {
  CreatedKey,
  CreatedToken,
  HostAudit,
  HostDetail,
  OperationReply
} from '../../../src/protocol/api.ts'
import { type Scheduler, startScheduler } from '../../../src/scheduler/app.ts'
import { type Ended, hostlet } from '../../cli/program.ts'
import { ApiClient } from '../../scheduler/support/api-client.ts'
import { defaultConfig } from '../../scheduler/support/test-scheduler.ts'

interface Listed {
  readonly entries: readonly Readonly<Record<string, unknown>>[]
}

describe('the audit trail', { timeout: 170_000 }, () => {
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

  const linesOnDisk = () =>
    readFileSync(join(config.stateDirectory, 'audit', '00000001.jsonl'), 'utf8')
      .trimEnd()
      .split('\n')

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
      ['POST', '/v1/hosts/{id}/refresh', host, 202, '127.0.0.1']
    )
    assert.ok(!linesOnDisk().join('').includes(token))
  })

  it('is countersigned, found whole while the agent runs, and agrees with the scheduler', async () => {
    const host = await connected()
    await receiptFor(host, linesOnDisk().length - 1)
    const both = await audit('verify', '--scheduler')
    assert.equal(both.status, 0, both.stdout + both.stderr)
    assert.match(both.stdout, /Audit trail of .*: whole/)
    assert.match(both.stdout, /it agrees in [1-9]\d* heads/)
    assert.match(both.stdout, /Audit of the scheduler: whole/)
  })

  it('goes into a spreadsheet whole, and without formulas', async () => {
    const { text } = await api.post<CreatedKey>('/v1/keys', { tier: 'read', note: '=1+1' })
    const { url, caFile } = scheduler
    const low = new ApiClient({ url, caFile, key: text })
    assert.equal((await low.failure({ method: 'POST', path: '/v1/tokens', json: {} })).status, 403)
    const trail = await audit('export', '--csv')
    const [titles = '', ...rows] = trail.stdout.split('\r\n')
    assert.match(titles, /^seq,at,kind,command,verb,vm,/)
    assert.equal(rows.filter((row) => row !== '').length, linesOnDisk().length)
    const out = join(root, 'calls.csv')
    assert.equal((await audit('export', '--csv', '--scheduler', '--out', out)).status, 0)
    const calls = readFileSync(out, 'utf8')
    assert.ok(calls.includes(",'=1+1,"), calls)
    const again = await audit('export', '--csv', '--scheduler', '--out', out)
    assert.deepEqual([again.status, readFileSync(out, 'utf8')], [2, calls])
  })

  it('shows a byte that somebody changed, with file, line and offset, while the agent is down', async () => {
    await agent?.stop()
    const copy = join(root, 'copy')
    cpSync(config.stateDirectory, copy, { recursive: true })
    const path = join(copy, 'audit', '00000001.jsonl')
    const text = readFileSync(path, 'utf8')
    const offset = text.indexOf('"kind":"local"')
    writeFileSync(path, text.replace('"action":"enroll"', '"action":"Enroll"'))
    const line = text.slice(0, offset).split('\n').length
    const start = text.lastIndexOf('\n', offset) + 1
    const { status, stdout } = await hostlet(['audit', 'verify', '--state-directory', copy], environment)
    assert.equal(status, 3)
    assert.match(stdout, /NOT WHOLE/)
    assert.ok(stdout.includes(`changed: 00000001.jsonl, line ${line}, byte ${start}`), stdout)
  })

  it('raises an alarm at the scheduler when its end was cut off, until an admin takes it as it is', async () => {
    const path = join(config.stateDirectory, 'audit', '00000001.jsonl')
    const lines = readFileSync(path, 'utf8').split('\n')
    writeFileSync(path, `${lines.slice(0, 3).join('\n')}\n`)
    rmSync(join(config.stateDirectory, 'audit', 'receipt.jws'))
    const alone = await verifyTrail({ directory: join(config.stateDirectory, 'audit'), keys: [] })
    assert.equal(alone.fault, undefined)
    const compared = await audit('verify', '--scheduler')
    assert.equal(compared.status, 3, compared.stdout)
    assert.match(compared.stdout, /truncated: 00000001\.jsonl, line 4/)
    await start()
    const host = await connected()
    const fault = () =>
      api
        .get<HostDetail>(`/v1/hosts/${host}`)
        .then(({ host: { conditions } }) => conditions.find(({ id }) => id === 'audit-trail-tampered'))
    assert.equal((await until(fault)).severity, 'critical')
    const onHost = () =>
      api
        .get<HostDetail>(`/v1/hosts/${host}`)
        .then(({ host: { conditions } }) => conditions.find(({ id }) => id === 'audit-trail'))
    const accepted = await hostlet(['audit', 'accept', host], environment)
    assert.equal(accepted.status, 0, accepted.stderr)
    await agent?.stop()
    await start()
    await receiptFor(host, 1)
    assert.deepEqual([await fault(), await onHost()], [undefined, undefined])
    const both = await audit('verify', '--scheduler')
    assert.equal(both.status, 0, both.stdout + both.stderr)
  })
})
