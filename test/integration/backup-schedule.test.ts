// A schedule from end to end: set by the command line, kept by the agent while the scheduler is away, and told once it is back.

import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { type Agent, startAgent } from '../../src/agent/app.ts'
import { loadAgentConfig } from '../../src/agent/config.ts'
import { LibvirtHypervisor } from '../../src/agent/host/libvirt-hypervisor.ts'
import { createPrivateKey, publicHalf } from '../../src/agent/keys/jwk.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { createLogger } from '../../src/lib/log-output.ts'
import type { BackupList, BackupRunList, HostList, OperationReply } from '../../src/protocol/api.ts'
import { hostlet } from '../cli/program.ts'
import { type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import { TestScheduler } from '../scheduler/support/test-scheduler.ts'
import { cannotProvision, guestPath } from './provision-host.ts'

const target = 'main'
const patienceMs = 120_000

describe('a backup schedule', { skip: await cannotProvision(), timeout: 600_000 }, () => {
  let fixture: LibvirtFixture
  let scheduler: TestScheduler
  /** A backup begins only when the test lets it. */
  let gate = Promise.resolve()
  let reached = Promise.withResolvers<void>()
  let agent: Agent
  let vm: string
  const lines: string[] = []

  before(async () => {
    fixture = await openLibvirtFixture()
    vm = `${fixture.prefix}-web`
    // The same after it was away: the agent knows no other.
    const port = await freePort()
    const listen = { address: '127.0.0.1', port }
    scheduler = await TestScheduler.start((config) => ({ ...config, listen }))
    await writeFiles()
    const { token, caHash, url } = await scheduler.token()
    writeFileSync(path('token'), token, { mode: 0o600 })
    const words = ['enroll', '--scheduler', url, '--token-file', path('token'), '--ca-hash', caHash]
    const enrolled = await hostlet([...words, '--config', path('agent.yaml')])
    assert.equal(enrolled.status, 0, enrolled.stderr)
    const config = loadAgentConfig(path('agent.yaml'), {})
    const log = createLogger({ format: 'json', stream: { write: (line) => lines.push(line) } })
    const hypervisor = new LibvirtHypervisor({
      uri: 'qemu:///system',
      accelerator: 'tcg',
      pool: fixture.pool,
      trialUid: fixture.uid,
      runtimeDirectory: path('run'),
      scratch: { reserveBytes: 64 * 1024 ** 2 },
      clock: systemClock,
      log
    })
    const { beginBackup } = hypervisor
    Object.assign(hypervisor, {
      beginBackup: async (...args: Parameters<typeof beginBackup>) => {
        reached.resolve()
        await gate
        return await beginBackup(...args)
      }
    })
    agent = await startAgent(config, { log, hypervisor })
    await until(async () => {
      const { hosts } = await scheduler.api.get<HostList>('/v1/hosts')
      return hosts[0]?.state === 'connected' && hosts[0].hypervisor === 'connected'
    }, 'the agent to connect')
    const digest = readFileSync(`${guestPath}.sha256`, 'utf8').trim()
    const source = ['--image', pathToFileURL(guestPath).href, '--sha256', digest, '--ready-port', '80']
    const size = ['--cpus', '1', '--memory', '192MiB', '--disk', '128MiB', '--data-disk', '8MiB']
    await command('vm', 'create', vm, ...source, ...size)
  })
  after(async () => {
    await agent?.stop()
    await scheduler?.[Symbol.asyncDispose]()
    await fixture?.dispose()
  })

  it('is kept without the scheduler, which then hears of the backup and of what was removed', async () => {
    await command('vm', 'backup', vm, '--target', target)
    await command('vm', 'backup', vm, '--target', target)
    const before = manifests()
    assert.equal(before.length, 2)
    const held = Promise.withResolvers<void>()
    reached = Promise.withResolvers()
    gate = held.promise
    await command('vm', 'schedule', vm, '--target', target, '--every', '1h', '--keep-last', '1')
    await reached.promise
    await scheduler.stop()
    held.resolve()
    await until(async () => manifests().length === 1 && !before.includes(manifests()[0] ?? ''), 'the prune')
    await scheduler.startAgain()
    const runs = async () => (await scheduler.api.get<BackupRunList>('/v1/backup-runs')).runs
    await until(async () => (await runs()).some(({ origin }) => origin === 'schedule'), 'the report')
    const [run] = (await runs()).filter(({ origin }) => origin === 'schedule')
    assert.equal(run?.error, undefined)
    assert.deepEqual([run?.vm, run?.snapshot], [vm, manifests()[0]])
    const { backups } = await scheduler.api.get<BackupList>('/v1/backups')
    assert.deepEqual(
      backups.map(({ snapshot, kind }) => ({ snapshot, kind })),
      [{ snapshot: run?.snapshot, kind: 'incremental' }],
      'removed ones are not listed'
    )
    const all = (await scheduler.api.get<BackupList>('/v1/backups?removed=true')).backups
    const gone = all.flatMap(({ snapshot, removedAt }) => (removedAt === undefined ? [] : [snapshot]))
    assert.deepEqual(gone.toSorted(), before.toSorted())
  })

  /** Ids of the snapshots in the repository. */
  function manifests(): string[] {
    const vms = readdirSync(join(path('repository'), 'vms'))
    return vms.flatMap((uuid) =>
      readdirSync(join(path('repository'), 'vms', uuid, 'snapshots')).map((name) => name.replace('.json', ''))
    )
  }

  async function command(...words: string[]): Promise<void> {
    writeFileSync(path('key'), scheduler.adminKey, { mode: 0o600 })
    const { url, caFile } = scheduler.running
    const { status, stdout, stderr } = await hostlet([...words, '--no-wait', '-o', 'json'], {
      HOSTLET_SCHEDULER: url,
      HOSTLET_API_KEY_FILE: path('key'),
      HOSTLET_CA_FILE: caFile
    })
    assert.equal(status, 0, `${words.join(' ')}: ${stderr}\n${lines.slice(-8).join('')}`)
    const { id } = (JSON.parse(stdout) as OperationReply).operation
    const look = async () => (await scheduler.api.get<OperationReply>(`/v1/operations/${id}`)).operation
    await until(async () => ['done', 'failed'].includes((await look()).state), words.join(' '))
    assert.equal((await look()).state, 'done', JSON.stringify((await look()).error))
  }

  async function writeFiles(): Promise<void> {
    for (const name of ['policy', 'repository']) mkdirSync(path(name), { mode: 0o700 })
    const recovery = publicHalf(await createPrivateKey())
    const policy = {
      repositories: { [target]: { url: pathToFileURL(path('repository')).href } },
      recovery: [{ jwk: recovery }]
    }
    writeFileSync(join(path('policy'), 'policy.yaml'), JSON.stringify(policy), { mode: 0o600 })
    const { name, bridge, subnet } = fixture.network
    const settings = {
      stateDirectory: path('state'),
      runtimeDirectory: path('run'),
      accelerator: 'tcg',
      pool: fixture.pool,
      profiles: { starter: { network: name, bridge, subnet, encryption: false } },
      vmUids: { first: fixture.uid, count: 64 },
      images: { allowFileUrls: [dirname(guestPath)] },
      backup: { policy: join(path('policy'), 'policy.yaml') }
    }
    writeFileSync(path('agent.yaml'), JSON.stringify(settings))
  }

  function path(name: string): string {
    return join(fixture.directory, name)
  }

  async function until(holds: () => Promise<boolean>, what: string): Promise<void> {
    const signal = AbortSignal.timeout(patienceMs)
    while (!(await holds())) {
      assert.ok(!signal.aborted, `waited in vain for ${what}:\n${lines.slice(-12).join('')}`)
      await systemClock.sleep(100, AbortSignal.any([]))
    }
  }
})

/** Asked of the kernel and given back. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = Object(server.address())
  await new Promise((resolve) => server.close(resolve))
  return port
}
