// Dry runs over HTTP: every route that makes commands has its host plan them, and nothing else comes of it.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { KeyedLock } from '../../../src/lib/keyed-lock.ts'
import type { OperationList, OperationReply } from '../../../src/protocol/api.ts'
import { compile } from '../../../src/protocol/validate.ts'
import type { CommandRequest } from '../../../src/scheduler/commands.ts'
import { planning, queryOf, takesDryRun } from '../../../src/scheduler/http/planning.ts'
import type { Call, Route, Services } from '../../../src/scheduler/http/route.ts'
import { routes } from '../../../src/scheduler/http/routes.ts'
import { SqliteStore } from '../../../src/scheduler/store/sqlite-store.ts'
import type { CommandRecord } from '../../../src/scheduler/store/store.ts'
import { backupRecord, backupReport, key1, snapshot1, uuid1, uuid2, vmSummary } from '../support/samples.ts'
import { defaultConfig, TestScheduler } from '../support/test-scheduler.ts'

const image = { url: 'https://x/y', sha256: 'a'.repeat(64), format: 'qcow2' }
const specification = {
  ...{ name: 'web-9', profile: 'starter', image, cpus: 1 },
  ...{ memoryBytes: 64 * 1024 ** 2, rootDiskBytes: 1024 ** 2 }
}

async function connected(scheduler: TestScheduler, vms = [] as ReturnType<typeof vmSummary>[]) {
  const agent = await scheduler.enroll()
  await agent.connect()
  agent.sendInventory({ vms })
  await agent.sync()
  return agent
}

const consoleLine = 'POST /v1/vms/{name}/console'
/** A body for each route that makes commands. */
const bodies: Readonly<Record<string, Record<string, unknown>>> = {
  'POST /v1/hosts/{id}/images': image,
  'POST /v1/hosts/{id}/vms': {},
  'POST /v1/hosts/{id}/refresh': {},
  'POST /v1/hosts/{id}/clean': {},
  'POST /v1/hosts/{id}/rotate-key': {},
  'POST /v1/hosts/{id}/drain': {},
  'POST /v1/hosts/{id}/resume': {},
  'POST /v1/hosts/{id}/backups': { target: 'main' },
  'POST /v1/vms': { specification, placement: { group: 'web' } },
  'POST /v1/vms/{name}/start': {},
  'POST /v1/vms/{name}/stop': { force: true },
  'POST /v1/vms/{name}/reboot': {},
  'POST /v1/vms/{name}/rekey': {},
  'POST /v1/vms/{name}/resize': { cpus: 2 },
  'POST /v1/vms/{name}/refresh': {},
  'POST /v1/vms/{name}/specification': {},
  'POST /v1/vms/{name}/audit': {},
  'POST /v1/vms/{name}/repair': {},
  'DELETE /v1/vms/{name}': {},
  'POST /v1/vms/{name}/undelete': {},
  'POST /v1/vms/{name}/reimage': { image, seed: { userData: '#!/bin/sh' } },
  'POST /v1/vms/{name}/backup': { target: 'main' },
  'PUT /v1/vms/{name}/backup-schedule': { target: 'main', everyMs: 86_400_000, keep: { last: 1 } },
  'DELETE /v1/vms/{name}/backup-schedule': {},
  'POST /v1/vms/{name}/adopt-keys': { keys: [{ id: key1, jwe: 'a.b.c.d.e' }] },
  'POST /v1/backups/{snapshot}/verify': {},
  'POST /v1/backups/prune': { source: uuid1, keep: { last: 1 } },
  'POST /v1/backups/{snapshot}/export': { disk: 'root', format: 'raw', path: '/srv/export/root.raw' },
  // Takes no dry run: it shows that one would be noticed which does more.
  [consoleLine]: {},
  'POST /v1/restores': { source: uuid1, name: 'web-8' }
}

const lineOf = ({ method, path }: Route) => `${method} ${path}`

/** What fails whoever uses it. */
function outOfBounds<Service extends object>(name: string): Service {
  return new Proxy({} as Service, { get: () => assert.fail(`a dry run uses ${name}`) })
}

/** A scheduler whose host is connected and has a VM with a backup, and a way to run a route against its store alone. */
class Bench implements AsyncDisposable {
  readonly scheduler: TestScheduler
  readonly #params: Readonly<Record<string, string>>
  readonly #store: SqliteStore
  readonly #database: DatabaseSync
  readonly created: CommandRequest[] = []

  private constructor(scheduler: TestScheduler, host: string, store: SqliteStore) {
    this.scheduler = scheduler
    this.#params = { name: 'web-1', id: host, snapshot: snapshot1 }
    this.#store = store
    this.#database = new DatabaseSync(join(scheduler.directory, 'scheduler.db'), { readOnly: true })
  }

  static async make(): Promise<Bench> {
    const scheduler = await TestScheduler.start()
    // Before the host connects: whoever opens a store finds all hosts away.
    const store = new SqliteStore(scheduler.directory, defaultConfig(scheduler.directory))
    const agent = await connected(scheduler, [vmSummary()])
    agent.send({ type: 'backups', reports: [backupReport(uuid2, backupRecord(agent.id))] })
    await agent.next('backups-ack')
    return new Bench(scheduler, agent.id, store)
  }

  /** As the server runs it for `dryRun=true`. */
  async plan(route: Route): Promise<void> {
    const body = bodies[lineOf(route)]
    const actor = { id: 'somebody', note: '', tier: 'admin' }
    assert.ok(body, `no body for ${lineOf(route)}`)
    const call = {
      params: this.#params,
      query: {},
      actor,
      body: route.body && compile(route.body, 'body')(body)
    }
    await route.handle(call as unknown as Call<unknown, unknown, unknown>, planning(this.#services()))
  }

  /** All that the store holds. */
  held(): unknown {
    const tables = this.#database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").all()
    return tables.map(({ name }) => [name, this.#database.prepare(`SELECT * FROM "${name}"`).all()])
  }

  #services(): Services {
    const { directory, clock, log } = this.scheduler
    return {
      ...{ config: defaultConfig(directory), store: this.#store, placing: new KeyedLock(), clock, log },
      commands: { ...outOfBounds('other commands'), create: async (request) => this.#create(request) },
      authority: outOfBounds('authority'),
      trust: outOfBounds('trust'),
      agents: outOfBounds('agents'),
      keys: outOfBounds('keys'),
      sessions: outOfBounds('sessions'),
      factors: outOfBounds('factors'),
      consoles: outOfBounds('consoles'),
      audit: outOfBounds('audit'),
      metrics: outOfBounds('metrics'),
      tallies: outOfBounds('tallies'),
      ...{ version: '0.1.0', startedAt: 0, addresses: () => [], openApi: () => ({}) }
    }
  }

  #create(request: CommandRequest): CommandRecord {
    this.created.push(request)
    const times = { createdAt: 1, expiresAt: 2 }
    return {
      id: uuid2,
      verb: request.verb,
      host: request.host.id,
      state: 'waiting',
      refusals: 0,
      ...times
    } as CommandRecord
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#database.close()
    await this.#store.close()
    await this.scheduler[Symbol.asyncDispose]()
  }
}

describe('dryRun', { timeout: 60_000 }, () => {
  it('is taken by every route that makes commands, but those that do something here besides', () => {
    const without = routes
      .filter((route) => route.status === 202 && !takesDryRun(route))
      .map(({ method, path }) => `${method} ${path}`)
    assert.deepEqual(without, ['POST /v1/vms/{name}/console', 'POST /v1/operations/{id}/cancel'])
    for (const route of routes)
      assert.equal(
        'dryRun' in ((queryOf(route) as { properties?: object })?.properties ?? {}),
        takesDryRun(route)
      )
  })

  it('makes one command, and nothing else of the store or of this process is touched', async () => {
    await using bench = await Bench.make()
    const before = bench.held()
    const planned = routes.filter(takesDryRun)
    assert.deepEqual(
      planned.map(lineOf).sort(),
      Object.keys(bodies)
        .filter((line) => line !== consoleLine)
        .sort()
    )
    for (const route of planned) {
      bench.created.length = 0
      await bench.plan(route)
      assert.deepEqual(
        bench.created.map(({ verb, intent, vm }) => [verb, intent.kind, vm]),
        [['operation.plan', 'none', undefined]],
        lineOf(route)
      )
      assert.deepEqual(bench.held(), before, lineOf(route))
    }
    const route = routes.find((each) => lineOf(each) === consoleLine)
    assert.ok(route)
    await assert.rejects(bench.plan(route), /a dry run uses consoles/)
  })

  it('has the host plan the command, whose arguments it gets as they would be, and records no VM', async () => {
    await using scheduler = await TestScheduler.start()
    const agent = await connected(scheduler)
    const { api } = scheduler
    const { operation } = await api.post<OperationReply>('/v1/vms?dryRun=true', { specification })
    assert.deepEqual([operation.verb, operation.vm], ['operation.plan', 'web-9'])
    const { claims } = await agent.nextCommand()
    const asked = claims.arguments as {
      verb: string
      arguments: Record<string, unknown>
      subject: { vm: string; uuid: string }
    }
    assert.equal(asked.verb, 'vm.provision')
    assert.deepEqual(asked.arguments, { specification: { ...specification, uuid: asked.subject.uuid } })
    assert.equal(claims.subject, undefined)
    assert.equal((await api.failure({ path: '/v1/vms/web-9' })).code, 'E_NOT_FOUND')
    // The name is free still, and the key of a plan is not that of the request.
    const once = { headers: { 'idempotency-key': 'once' } }
    await api.post('/v1/vms?dryRun=true', { specification }, once)
    const real = await api.post<OperationReply>('/v1/vms', { specification }, once)
    assert.equal(real.operation.verb, 'vm.provision')
  })

  it('of a VM names it without a generation, and is in nobody’s way', async () => {
    await using scheduler = await TestScheduler.start()
    const vm = vmSummary()
    const agent = await connected(scheduler, [vm])
    const { api } = scheduler
    await api.delete(`/v1/vms/${vm.name}?dryRun=true&retainDays=7`)
    const { claims } = await agent.nextCommand()
    assert.deepEqual(claims.arguments, {
      verb: 'vm.teardown',
      arguments: { vm: vm.name, retainDays: 7 },
      subject: { vm: vm.name, uuid: vm.uuid }
    })
    const { operations } = await api.get<OperationList>(`/v1/operations?vm=${vm.name}`)
    assert.deepEqual(
      operations.map(({ id, verb }) => [id, verb]),
      [[claims.id, 'operation.plan']]
    )
    const shown = await api.get<{ vm: { wanted: string } }>(`/v1/vms/${vm.name}`)
    assert.equal(shown.vm.wanted, vm.wanted)
  })

  it('is refused for a host that is away, which alone could tell, and where it is no boolean', async () => {
    await using scheduler = await TestScheduler.start()
    const agent = await connected(scheduler, [vmSummary()])
    await agent.disconnect()
    const { api } = scheduler
    const failure = async (method: string, path: string) =>
      (await api.failure({ method, path, ...(method === 'POST' && { json: {} }) })).code
    assert.equal(await failure('POST', '/v1/vms/web-1/stop?dryRun=true'), 'E_UNAVAILABLE')
    assert.equal(await failure('POST', '/v1/vms/web-1/stop?dryRun=perhaps'), 'E_BAD_REQUEST')
    assert.equal(await failure('GET', '/v1/vms?dryRun=true'), 'E_BAD_REQUEST')
  })
})
