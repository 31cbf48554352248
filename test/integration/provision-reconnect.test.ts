// The hypervisor when libvirtd dies and comes back: says so once, refuses meanwhile, and hears events again afterwards.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { type Connection, domainCreateWithFlags } from 'node-libvirt'
import type { DomainEvent, HypervisorStatus } from '../../src/agent/host/hypervisor.ts'
import { LibvirtHypervisor } from '../../src/agent/host/libvirt-hypervisor.ts'
import { HostletError } from '../../src/errors.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { type LogFields, type Logger, silentLogger } from '../../src/lib/log.ts'
import { defineOwnedDomain } from './libvirt-connection/owned-domain.ts'
import { PrivateLibvirtd } from './libvirt-connection/private-libvirtd.ts'

const skip = existsSync('/usr/sbin/libvirtd') && process.getuid?.() === 0 ? false : 'takes libvirtd and root'
const pool = { name: 'hl-t-reconnect', path: '/nonexistent/hl-t-reconnect' }

describe('a hypervisor whose libvirtd dies', { skip }, () => {
  it('is away, comes back by itself, and hears events again', async () => {
    await using daemon = await PrivateLibvirtd.start()
    const directory = await mkdtemp(join(tmpdir(), 'hostlet-reconnect-'))
    const log = new Lines()
    const hypervisor = new LibvirtHypervisor({
      uri: 'test:///default',
      socket: new URL(daemon.uri).searchParams.get('socket') ?? '',
      accelerator: 'tcg',
      pool,
      trialUid: 1_950_000_000,
      runtimeDirectory: directory,
      clock: systemClock,
      log
    })
    const statuses = new Sequence<HypervisorStatus['state']>()
    const events = new Sequence<string>()
    hypervisor.onStatus(({ state }) => statuses.add(state))
    hypervisor.onEvent(({ name, kind }: DomainEvent) => events.add(`${name} ${kind}`))
    try {
      hypervisor.open()
      await statuses.until('connected')
      await makeVm(daemon, 'first', { pool: pool.name })
      await events.until('first started')
      assert.deepEqual(
        (await hypervisor.listVms(wait())).map((vm) => vm.specification.name),
        ['first']
      )

      const killed = daemon.kill()
      // Whoever is refused waits for it to come back, which takes that it is known to be away.
      const answer = () => hypervisor.listVms(wait()).then(noop, (error: HostletError) => error.code)
      while ((await answer()) !== 'E_UNAVAILABLE') await new Promise(setImmediate)
      assert.equal(hypervisor.status().state, 'away')
      await killed
      await statuses.until('away')
      await assert.rejects(hypervisor.listVms(wait()), isUnavailable)
      await assert.rejects(hypervisor.start('first', wait()), isUnavailable)

      daemon.restart()
      await statuses.until('connected')
      await makeVm(daemon, 'second', { pool: pool.name })
      await events.until('second started')
      await makeVm(daemon, 'another-agents', { pool: 'another' })
      const foreign = (await hypervisor.listForeign(wait())).map(({ name }) => name)
      assert.ok(foreign.includes('another-agents'))
      assert.ok(!events.all.some((event) => event.startsWith('another-agents')))
      assert.deepEqual(
        log.lines.filter((line) => line.includes('libvirt')),
        ['connected to libvirt', 'libvirt is away', 'connected to libvirt']
      )
    } finally {
      await hypervisor.close()
      await rm(directory, { recursive: true, force: true })
    }
    assert.equal(hypervisor.status().state, 'away')
  })

  it('says that it is away when there never was one, and closes at once', async () => {
    const hypervisor = new LibvirtHypervisor({
      uri: 'qemu:///system',
      socket: '/nonexistent/libvirt-sock',
      accelerator: 'auto',
      pool,
      trialUid: 1_950_000_000,
      runtimeDirectory: tmpdir(),
      clock: systemClock,
      log: silentLogger
    })
    hypervisor.open()
    await assert.rejects(hypervisor.facts(wait()), isUnavailable)
    await hypervisor.close()
    await assert.rejects(hypervisor.listVms(wait()), isUnavailable)
  })
})

/** A VM of ours on the test driver, which has no QEMU to ask about. */
async function makeVm(daemon: PrivateLibvirtd, name: string, { pool }: { pool: string }): Promise<void> {
  await using connection: Connection = await daemon.connect()
  const domain = await defineOwnedDomain(connection, { name, pool })
  await connection.call(domainCreateWithFlags, { domain, flags: 0 })
}

/** What came, and a wait for the next one of its kind. */
class Sequence<Item> {
  readonly all: Item[] = []
  #seen = 0
  #wake: () => void = () => undefined

  add(item: Item): void {
    this.all.push(item)
    this.#wake()
  }

  async until(item: Item): Promise<void> {
    for (;;) {
      const at = this.all.indexOf(item, this.#seen)
      if (at !== -1) {
        this.#seen = at + 1
        return
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }
}

class Lines implements Logger {
  readonly lines: string[] = []
  debug = (): void => undefined
  info = (_fields: LogFields, message: string) => void this.lines.push(message)
  warn = (_fields: LogFields, message: string) => void this.lines.push(message)
  error = (_fields: LogFields, message: string) => void this.lines.push(message)
  child = () => this
}

function isUnavailable(error: unknown): boolean {
  return error instanceof HostletError && error.code === 'E_UNAVAILABLE'
}

function noop(): undefined {
  return undefined
}

function wait() {
  return { signal: AbortSignal.timeout(30_000) }
}
