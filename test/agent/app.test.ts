// The agent as a whole, over real TLS and a real journal, on a hypervisor in memory.

import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import { type Agent, type AgentOptions, startAgent } from '../../src/agent/app.ts'
import { BackupRecords } from '../../src/agent/backups/records.ts'
import { type AgentConfig, loadAgentConfig } from '../../src/agent/config.ts'
import { MemoryNft } from '../../src/agent/firewall/memory-nft.ts'
import { MemoryHypervisor } from '../../src/agent/host/memory-hypervisor.ts'
import { saveIdentity } from '../../src/agent/identity/identity.ts'
import { AgentDatabase } from '../../src/agent/operations/database.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { createLogger } from '../../src/lib/log-output.ts'
import { withUserData } from '../support/sealed-seed.ts'
import { claimsOf, createSigner, type Signer, vmUuid } from '../support/signed-commands.ts'
import { type Pair, TestAuthority, trustDomain } from '../support/test-authority.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

describe('the agent', () => {
  let authority: TestAuthority
  let server: Pair
  let signer: Signer
  let root: string
  let directory: string
  let hypervisor: MemoryHypervisor
  let lines: string[]

  before(async () => {
    authority = await TestAuthority.create()
    server = await authority.issue({ usage: 'server', uris: [`spiffe://${trustDomain}/scheduler/main`] })
    signer = await createSigner()
    // In memory, as a host's runtime directory is.
    root = mkdtempSync('/dev/shm/hostlet-agent-')
  })
  after(() => rmSync(root, { recursive: true }))
  beforeEach(() => {
    directory = mkdtempSync(join(root, 'agent-'))
    hypervisor = new MemoryHypervisor({ clock: systemClock })
    lines = []
  })

  function configOf(scheduler: TestScheduler, changes: Record<string, unknown> = {}): AgentConfig {
    const path = join(directory, 'agent.yaml')
    const text = {
      ...changes,
      stateDirectory: join(directory, 'state'),
      runtimeDirectory: join(directory, 'run'),
      schedulerUrls: [scheduler.socketUrl]
    }
    writeFileSync(path, JSON.stringify(text))
    return loadAgentConfig(path, {})
  }

  async function start(
    scheduler: TestScheduler,
    config = configOf(scheduler),
    options: AgentOptions = {}
  ): Promise<Agent> {
    saveIdentity(config.stateDirectory, await authority.identity({ commandKeys: [signer.publicKey] }))
    const log = createLogger({
      format: 'journal',
      level: config.log.level,
      stream: { write: (line) => lines.push(line) }
    })
    return startAgent(config, { hypervisor, log, nft: new MemoryNft(), ...options })
  }
  const listen = () => TestScheduler.listen({ authority, server })

  it('refuses to start on a host that is not enrolled, and says how to enroll it', async () => {
    await using scheduler = await listen()
    await assert.rejects(startAgent(configOf(scheduler), { hypervisor }), {
      code: 'E_NOT_FOUND',
      message: /hostlet enroll/
    })
  })

  it('says hello with its verbs, then what is on the host, and beats', async () => {
    await using scheduler = await listen()
    await using _agent = await start(scheduler)
    await scheduler.until(() => scheduler.of('inventory').length > 0 && scheduler.of('heartbeat').length > 0)
    assert.ok(scheduler.of('hello')[0]?.verbs.includes('vm.provision'))
    assert.equal(scheduler.of('inventory')[0]?.facts.hostId, 'host-1')
    assert.deepEqual(scheduler.of('heartbeat')[0]?.conditions, [])
    assert.equal(scheduler.of('heartbeat')[0]?.hypervisor, 'connected')
  })

  it('carries out a signed command and refuses one that is signed by somebody else', async () => {
    await using scheduler = await listen()
    await using _agent = await start(scheduler)
    await scheduler.until(() => scheduler.of('heartbeat').length > 0)
    const { subject: _none, ...look } = claimsOf(Date.now(), { verb: 'vm.list', arguments: {} })
    scheduler.send({ type: 'command', jws: await (await createSigner()).sign(look) })
    await scheduler.until(() => scheduler.of('refusal').length > 0)
    assert.equal(scheduler.of('refusal')[0]?.error.code, 'E_AUTH')
    scheduler.send({ type: 'command', jws: await signer.sign(look) })
    await scheduler.until(() => scheduler.of('result').length > 0)
    assert.deepEqual(scheduler.of('result')[0]?.result.value, { vms: [], foreign: [] })
    assert.ok(!lines.join('').includes(await signer.sign(look)))
  })

  it('backs VMs up by their schedules, and tells of each run until that is acknowledged', async () => {
    await using scheduler = await listen()
    await defineScheduledVm(hypervisor)
    const config = configOf(scheduler, { backup: { policy: join(directory, 'no-policy.yaml') } })
    await using agent = await start(scheduler, config)
    await scheduler.until(() => scheduler.of('backups').length > 0)
    const [report] = scheduler.of('backups')[0]?.reports ?? []
    assert.equal(report?.uuid, vmUuid)
    assert.equal(report?.origin, 'schedule')
    assert.equal(report?.error?.code, 'E_AUTH')
    assert.ok((report?.nextAt ?? 0) > Date.now())
    scheduler.send({ type: 'backups-ack', operations: [report?.id ?? ''] })
    scheduler.send('not JSON')
    await scheduler.until(() => scheduler.of('problem').length > 0)
    await agent.stop()
    using database = new AgentDatabase(join(config.stateDirectory, 'agent.db'))
    const records = new BackupRecords({ database, clock: systemClock })
    assert.deepEqual(records.unacknowledged(), [])
    assert.equal(records.lastRun(vmUuid, 'vault')?.failures, 1)
  })

  it('lets no secret of a command into its log, its messages or the domain', async () => {
    const image = Buffer.alloc(64 * 1024, 'image')
    writeFileSync(join(directory, 'small.img'), image)
    const canary = 'canary-5c1f0e77'
    const specification = {
      name: 'web-1',
      uuid: vmUuid,
      profile: 'starter',
      image: {
        url: `file://${join(directory, 'small.img')}`,
        sha256: createHash('sha256').update(image).digest('hex'),
        format: 'raw'
      },
      cpus: 1,
      memoryBytes: 64 * 1024 ** 2,
      rootDiskBytes: 1024 ** 2
    } as const
    await using scheduler = await listen()
    const config = configOf(scheduler, { images: { allowFileUrls: [directory] }, log: { level: 'debug' } })
    await using _agent = await start(scheduler, config)
    await scheduler.until(() => scheduler.of('inventory').length > 0)
    const key = scheduler.of('inventory')[0]?.facts.secretsKey
    assert.ok(key)
    const sealed = await withUserData(specification, `#cloud-config\npassword: ${canary}\n`, key)
    const jws = await signer.sign(
      claimsOf(Date.now(), { verb: 'vm.provision', arguments: { specification: sealed } })
    )
    scheduler.send({ type: 'command', jws })
    await scheduler.until(() => scheduler.of('result').length > 0)
    const [end] = scheduler.of('result')
    assert.equal(end?.result.outcome, 'done', JSON.stringify(end))
    const told = lines.join('') + JSON.stringify(scheduler.received)
    assert.match(told, /vm\.provision/)
    for (const secret of [canary, jws, jws.split('.')[1] ?? '']) assert.ok(!told.includes(secret))
    assert.ok(
      !JSON.stringify(await hypervisor.listVms({ signal: AbortSignal.timeout(5_000) })).includes(canary)
    )
  })

  it('looks anew when libvirt is back', async () => {
    await using scheduler = await listen()
    await using _agent = await start(scheduler)
    await scheduler.until(() => scheduler.of('inventory').length > 0)
    hypervisor.setStatus('away')
    // Told at once, not with the next heartbeat: commands are placed by it.
    await scheduler.until(() => scheduler.of('heartbeat').at(-1)?.hypervisor === 'away')
    const seen = scheduler.of('inventory').length
    hypervisor.setStatus('connected')
    await scheduler.until(() => scheduler.of('inventory').length > seen)
    assert.equal(scheduler.of('heartbeat').at(-1)?.hypervisor, 'connected')
  })

  it('connects to its scheduler while libvirt is away', async () => {
    await using scheduler = await listen()
    hypervisor.open = () => undefined
    await using _agent = await start(scheduler)
    await scheduler.until(() => scheduler.of('heartbeat').length > 0)
    assert.equal(scheduler.of('heartbeat')[0]?.hypervisor, 'away')
    assert.deepEqual(scheduler.of('inventory'), [])
  })

  it('acknowledges nothing that its disk does not take, asks to be started anew, and lets go of everything', async () => {
    await using scheduler = await listen()
    let fails = false
    const sync = async () => {
      if (fails) throw new Error('EIO: i/o error, fdatasync')
    }
    const agent = await start(scheduler, configOf(scheduler), { sync })
    await scheduler.until(() => scheduler.of('heartbeat').length > 0)
    fails = true
    const command = claimsOf(Date.now(), { verb: 'vm.start', arguments: { vm: 'web-1' } })
    scheduler.send({ type: 'command', jws: await signer.sign(command) })
    await scheduler.until(() => scheduler.of('refusal').length > 0)
    assert.equal(scheduler.of('refusal')[0]?.error.code, 'E_NOT_FOUND', 'what is never written needs no disk')
    const id = randomUUID()
    const subject = { vm: 'web-1', uuid: id, generation: 1 }
    scheduler.send({
      type: 'command',
      jws: await signer.sign(
        claimsOf(Date.now(), { verb: 'vm.teardown', subject, arguments: { vm: 'web-1' } })
      )
    })
    assert.match((await agent.failed).message, /starts anew/)
    await agent.stop()
    assert.deepEqual([scheduler.of('ack'), scheduler.of('result')], [[], []])
    await using _again = await start(scheduler)
  })

  it('stops without touching a VM, lets go of its state directory, and leaves nothing running', async () => {
    await using scheduler = await listen()
    const agent = await start(scheduler)
    await scheduler.until(() => scheduler.of('heartbeat').length > 0)
    await agent.stop()
    await agent.stop()
    const touching = hypervisor.calls.filter((call) =>
      /^(start|cutPower|pressPowerButton|undefine|reset)/.test(call)
    )
    assert.deepEqual(touching, [])
    await using again = await start(scheduler)
    assert.equal(again.hostId, 'host-1')
    await assert.rejects(start(scheduler), { code: 'E_BUSY', message: /second agent/ })
  })
})

/** A VM whose first backup is due at once. */
async function defineScheduledVm(hypervisor: MemoryHypervisor): Promise<void> {
  hypervisor.open()
  const image = { url: 'file:///image', sha256: '0'.repeat(64), format: 'raw' } as const
  const sizes = { cpus: 1, memoryBytes: 64 * 1024 ** 2, rootDiskBytes: 1024 ** 2 }
  const network = { network: 'hl-net', macAddress: '52:54:00:00:00:01', address: '10.90.0.2' }
  const definition = {
    specification: { name: 'web-1', uuid: vmUuid, profile: 'starter', image, ...sizes },
    placement: { uid: 1_900_000_000, ...network, rootVolume: 'web-1-root.qcow2', dataVolume: null },
    generation: 1,
    wanted: 'stopped',
    backupSchedule: { target: 'vault', everyMs: 3_600_000 },
    seedPath: null
  } as const
  await hypervisor.define(definition, { signal: AbortSignal.timeout(10_000) })
}
