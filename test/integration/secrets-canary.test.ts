// Canaries: secrets in the user data of two VMs, then every place where one may have left a trace is searched for them.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { parse, stringify } from 'yaml'
import { Cleaner } from '../../scripts/first-light/cleaner.ts'
import { Fleet } from '../../scripts/first-light/fleet.ts'
import { createSettings } from '../../scripts/first-light/settings.ts'
import { enroll, startAgent } from '../../scripts/first-light/vm-life.ts'
import { systemClock } from '../../src/lib/clock.ts'
import type { HostList, OperationReply, VmReply } from '../../src/protocol/api.ts'
import { cannotProvision, guestPath } from './provision-host.ts'

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')
const patienceMs = 600_000
/** In memory: the secrets as their owner has them, and what is searched for. */
const sheltered = '/dev/shm'

describe('secrets of commands', { skip: await cannotProvision(), timeout: 900_000 }, () => {
  const settings = createSettings(`hlt${randomBytes(3).toString('hex')}`)
  const ending = new AbortController()
  const fleet = new Fleet(settings, ending.signal)
  const cleaner = new Cleaner(settings)
  const shelter = mkdtempSync(join(sheltered, 'hostlet-canary-'))
  /** One goes through the scheduler in plain text, one is sealed by the command line. */
  const vms = [canary('by-scheduler'), canary('by-asker')]
  const patterns = join(shelter, 'patterns')
  let hostId = ''

  before(async () => {
    writeFileSync(patterns, `${vms.flatMap(({ secret }) => formsOf(secret)).join('\n')}\n`)
    for (const { path, userData } of vms) writeFileSync(path, userData)
    await fleet.startScheduler()
    disksInClear(settings.agentConfig)
    await enroll(fleet)
    await startAgent(fleet)
    hostId = ((await fleet.hostlet(['host', 'ls'])) as HostList).hosts[0]?.id ?? ''
  })
  after(async () => {
    await fleet.takeDown()
    await cleaner.cleanUp()
    rmSync(shelter, { recursive: true, force: true })
    rmSync(settings.logDirectory, { recursive: true, force: true })
    ending.abort()
  })

  it('are in no file, log or process while the VMs are made', async () => {
    const operations = await Promise.all(
      vms.map(async (vm, index) => {
        const host = index === 0 ? [] : ['--host', hostId]
        const words = [...createWords(vm.name), '--user-data', vm.path, ...host, '--no-wait']
        return ((await fleet.hostlet(words)) as OperationReply).operation.id
      })
    )
    let [looks, ended] = [0, false]
    const signal = AbortSignal.timeout(patienceMs)
    while (!ended) {
      assert.deepEqual(processesThatSay(vms), [])
      // Seeds lie in the runtime directory while their VMs boot: they are the one place.
      assert.deepEqual(await found([...stateOf(), settings.poolDirectory, ...libvirtsOwn]), [])
      looks++
      ended = (await Promise.all(operations.map(hasEnded))).every((each) => each)
      await systemClock.sleep(300, signal)
    }
    assert.ok(looks > 5, `${looks} looks`)
  })

  it('reached the guests as they were', async () => {
    for (const { name, userData } of vms) {
      const { vm } = (await fleet.hostlet(['vm', 'show', name])) as VmReply
      assert.equal(vm.state, 'running', vm.reason)
      const answer = await fetch(`http://${vm.address}/user-data.sha256`)
      assert.equal((await answer.text()).trim(), createHash('sha256').update(userData).digest('hex'))
    }
  })

  it('are nowhere once the VMs are up: no seed, no definition, no journal, no log, no disk', async () => {
    assert.deepEqual(await found([...stateOf(), settings.runtimeDirectory, settings.poolDirectory]), [])
    assert.deepEqual(await found(libvirtsOwn), [])
    for (const { name } of vms)
      for (const flags of [[], ['--inactive'], ['--security-info']]) {
        const { stdout } = await run('virsh', ['-c', 'qemu:///system', 'dumpxml', name, ...flags])
        assert.ok(!says(stdout, vms), flags.join())
      }
  })

  it('are not repeated when they are refused', async () => {
    const path = join(shelter, 'too-long')
    writeFileSync(path, `${vms[0]?.secret} `.repeat(4_000))
    for (const host of [[], ['--host', hostId]])
      await assert.rejects(
        fleet.hostlet([...createWords(`${settings.name}-long`), '--user-data', path, ...host]),
        (error: Error) => /E_BAD_REQUEST/.test(error.message) && !says(error.message, vms)
      )
    rmSync(path)
    assert.deepEqual(await found(stateOf()), [])
  })

  it('get into no core dump: the units allow none', () => {
    for (const unit of globSync('systemd/*.service', { cwd: root }))
      assert.match(readFileSync(join(root, unit), 'utf8'), /^LimitCORE=0$/m, unit)
    const { length } = globSync('systemd/*.service', { cwd: root })
    assert.ok(length >= 2)
  })

  it('are nowhere after the end of everything either', async () => {
    for (const { name } of vms) await fleet.hostlet(['vm', 'rm', name, '--now', '--yes'])
    await fleet.takeDown()
    const places = [...stateOf(), settings.runtimeDirectory, settings.poolDirectory]
    assert.deepEqual(await found([...places, ...libvirtsOwn]), [])
  })

  it('would have been found: a copy in any of the places is', async () => {
    for (const place of [...stateOf(), settings.runtimeDirectory, settings.poolDirectory])
      for (const form of formsOf(vms[0]?.secret ?? '')) {
        const planted = join(place, 'planted')
        // In the middle of bytes that are no text.
        writeFileSync(planted, Buffer.concat([randomBytes(70_000), Buffer.from(form), randomBytes(500)]))
        assert.deepEqual(await found([place]), [planted], `${form} in ${place}`)
        rmSync(planted)
      }
  })

  function canary(kind: string) {
    const secret = `canary${randomBytes(18).toString('hex')}`
    const userData = `#cloud-config\npassword: ${secret}\nchpasswd: {expire: false}\n`
    return { name: `${settings.name}-${kind}`, secret, userData, path: join(shelter, kind) }
  }

  function createWords(name: string): string[] {
    const image = [
      '--image',
      `file://${guestPath}`,
      '--sha256',
      readFileSync(`${guestPath}.sha256`, 'utf8').trim()
    ]
    const sizes = ['--memory', '192MiB', '--disk', '128MiB', '--data-disk', '16MiB']
    return ['vm', 'create', name, ...image, ...sizes, '--ready-http', '80/', '--ready-timeout', '8m']
  }

  async function hasEnded(id: string): Promise<boolean> {
    const { operation } = (await fleet.hostlet(['op', 'show', id])) as OperationReply
    assert.notEqual(operation.state, 'failed', JSON.stringify(operation.error))
    return operation.state === 'done'
  }

  /** What is on disk of both daemons: databases with their logs beside them, keys, configuration, log files. */
  function stateOf(): string[] {
    return [settings.directory, settings.logDirectory]
  }

  /** Files under these that have one of the patterns, as bytes. */
  async function found(places: readonly string[]): Promise<string[]> {
    const words = ['-r', '-a', '-F', '-l', '-s', '-D', 'skip', '-f', patterns, '--']
    const there = places.filter((place) => existsSync(place))
    try {
      return (await run('grep', [...words, ...there])).stdout.trim().split('\n')
    } catch (error) {
      const { code, stdout } = error as { code?: number; stdout?: string }
      // 1: nothing. 2: something could not be read, such as a file that went away meanwhile.
      assert.ok(code === 1 || code === 2, String(error))
      return (stdout ?? '')
        .trim()
        .split('\n')
        .filter((line) => line !== '')
    }
  }
})

/** What libvirt and QEMU keep of domains; other pools' disks are not among it. */
const libvirtsOwn = [
  '/etc/libvirt',
  '/run/libvirt',
  '/var/lib/libvirt/qemu',
  '/var/lib/libvirt/dnsmasq',
  '/var/log/libvirt'
]

/** As it is, in hex, and as base64 has it wherever it begins: the part that does not depend on what stands around it. */
function formsOf(secret: string): string[] {
  const encoded = [0, 1, 2].map((offset) =>
    Buffer.from('x'.repeat(offset) + secret)
      .toString('base64')
      .replaceAll('=', '')
      .slice(4, -4)
  )
  return [secret, Buffer.from(secret).toString('hex'), ...encoded]
}

function says(text: string, vms: readonly { secret: string }[]): boolean {
  return vms.some(({ secret }) => formsOf(secret).some((form) => text.includes(form)))
}

/** Processes whose arguments or environment have one of the secrets. */
function processesThatSay(vms: readonly { secret: string }[]): string[] {
  return globSync('/proc/[0-9]*/{cmdline,environ}').filter((path) => {
    try {
      return says(readFileSync(path, 'latin1'), vms)
    } catch {
      // It has ended, or belongs to nobody who may be asked.
      return false
    }
  })
}

/** Otherwise a secret on a disk would not be seen there. */
function disksInClear(path: string): void {
  const config = parse(readFileSync(path, 'utf8')) as { profiles: Record<string, object> }
  const profiles = Object.entries(config.profiles).map(([name, profile]) => [
    name,
    { ...profile, encryption: false }
  ])
  writeFileSync(path, stringify({ ...config, profiles: Object.fromEntries(profiles) }))
}
