// Figure: from the scheduler's API to a running VM, against the same by hand with qemu-img and virsh.

import { execFile } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { connect, domainEvents, domainEventType } from 'node-libvirt'
import type { OperationView } from '../../src/protocol/api.ts'
import { type Figure, interleave, NotRun, type RatioRow, ratioRow } from '../harness.ts'
import { type Fleet, startFleet } from '../support/fleet.ts'

const run = promisify(execFile)
const guestImage = join(import.meta.dirname, '../../.cache/guest/hostlet-guest.qcow2')
const MIB = 1024 ** 2
const MEMORY_BYTES = 128 * MIB
const ROOT_DISK_BYTES = 1024 * MIB
const WAIT_MS = 60_000
const STOCK = 2
const POLL_MS = 100

export const figure: Figure = {
  id: 'vm-start',
  title: 'From the command to a running VM',
  run: async ({ quick }) => {
    if (!existsSync(guestImage))
      throw new NotRun('the guest image is missing; "sh scripts/setup.sh" builds it')
    const counts = { pairs: quick ? 2 : 12, warmUps: 1 }
    return {
      rows: [...(await withoutStock(counts)), ...(await withStock(counts))],
      how: [
        'hostlet: from the request `POST /v1/vms` at the scheduler (TLS, signed command, journal, agent) to the event of libvirt that the domain has started; the image is in the cache of the host. By hand: from the start of `qemu-img create` of the same overlay, then `virsh define` of the same domain XML, then `virsh start`, to the same event.',
        'Encrypted: LUKS in qcow2, against the same command for a profile with disks in clear. Prepared: the agent has made the disk before, and is not making the next one while the time runs; it does so afterwards, with CPU that nobody else wants.',
        'Emulated machine (TCG) with 128 MiB on a libvirtd of the bench; no seed. hostlet also reserves the address in DHCP in this time, which by hand nobody does.'
      ]
    }
  }
}

interface Counts {
  readonly pairs: number
  readonly warmUps: number
}

async function withoutStock(counts: Counts): Promise<RatioRow[]> {
  await using host = await openHost(0)
  const template = await templateOf(host)
  const plain = await interleave({
    ours: () => byHostlet(host, 'starter'),
    peer: () => byHand(host, template),
    ...counts
  })
  const sealed = await interleave({
    ours: () => byHostlet(host, 'sealed'),
    peer: () => byHostlet(host, 'starter'),
    ...counts
  })
  return [
    ratioRow({
      what: 'plain disk, against qemu-img and virsh by hand',
      first: ['hostlet', plain.ours],
      second: ['by hand', plain.peer],
      unit: 'ms',
      target: { atMost: 1.1 }
    }),
    ratioRow({
      what: 'encrypted disk, made when it is asked for',
      first: ['hostlet, LUKS', sealed.ours],
      second: ['hostlet, plain', sealed.peer],
      unit: 'ms'
    })
  ]
}

async function withStock(counts: Counts): Promise<RatioRow[]> {
  await using host = await openHost(STOCK)
  const times = await interleave({
    ours: async () => {
      await stocked(host)
      return await byHostlet(host, 'sealed')
    },
    peer: async () => {
      // Neither is timed while the agent makes the next one.
      await stocked(host)
      return await byHostlet(host, 'starter')
    },
    ...counts
  })
  return [
    ratioRow({
      what: 'encrypted disk, prepared ahead',
      first: ['hostlet, LUKS', times.ours],
      second: ['hostlet, plain', times.peer],
      unit: 'ms',
      target: { atMost: 1.2 }
    })
  ]
}

async function openHost(preparedDisks: number): Promise<Host & AsyncDisposable> {
  await using opened = new AsyncDisposableStack()
  const fleet = opened.use(await startFleet({ preparedDisks }))
  const watcher = opened.use(await watchStarts(fleet))
  const host = { fleet, watcher, image: installImage(fleet) }
  await prefetch(host)
  const owned = opened.move()
  return { ...host, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

/** Until the agent has made all the disks that it keeps ready. */
async function stocked({ fleet }: Host): Promise<void> {
  const deadline = performance.now() + WAIT_MS
  for (;;) {
    const files = existsSync(fleet.preparedDirectory) ? readdirSync(fleet.preparedDirectory) : []
    if (files.length === STOCK && files.every((name) => name.endsWith('.qcow2'))) return
    if (performance.now() > deadline) throw new Error('the agent does not prepare disks')
    await sleep(POLL_MS)
  }
}

interface Host {
  readonly fleet: Fleet
  readonly watcher: StartWatcher
  readonly image: { readonly url: string; readonly sha256: string; readonly format: 'qcow2' }
}

interface StartWatcher extends AsyncDisposable {
  /** When libvirt told that the domain had started, by the clock of `performance`. */
  started(name: string): Promise<number>
}

async function watchStarts({ libvirtd }: Fleet): Promise<StartWatcher> {
  const connection = await connect(`${libvirtd.uri}?socket=${libvirtd.socket}`)
  const waiting = new Map<string, (at: number) => void>()
  await connection.on(domainEvents.lifecycle, ({ domain, event }) => {
    if (event === domainEventType.started) waiting.get(domain.name)?.(performance.now())
  })
  return {
    started: (name) => {
      const { promise, resolve } = Promise.withResolvers<number>()
      waiting.set(name, resolve)
      return promise
    },
    [Symbol.asyncDispose]: () => connection.close()
  }
}

function installImage({ imagesDirectory }: Fleet): Host['image'] {
  const path = join(imagesDirectory, 'guest.qcow2')
  copyFileSync(guestImage, path)
  chmodSync(path, 0o644)
  const sha256 = createHash('sha256').update(readFileSync(path)).digest('hex')
  return { url: `file://${path}`, sha256, format: 'qcow2' }
}

async function prefetch({ fleet, image }: Host): Promise<void> {
  const { hosts } = await ask(fleet, 'HostList', 'GET', '/v1/hosts')
  const reply = await ask(fleet, 'OperationReply', 'POST', `/v1/hosts/${hosts[0]?.id}/images`, image)
  await ended(fleet, reply.operation)
}

async function byHostlet({ fleet, watcher, image }: Host, profile: string): Promise<number> {
  const name = newName()
  const started = watcher.started(name)
  const start = performance.now()
  const specification = {
    ...{ name, image, profile, cpus: 1 },
    memoryBytes: MEMORY_BYTES,
    rootDiskBytes: ROOT_DISK_BYTES
  }
  const created = await ask(fleet, 'OperationReply', 'POST', '/v1/vms', { specification })
  const elapsedMs = (await started) - start
  await ended(fleet, created.operation)
  const removed = await ask(fleet, 'OperationReply', 'DELETE', `/v1/vms/${name}`)
  await ended(fleet, removed.operation)
  return elapsedMs
}

/** The XML of a machine that hostlet made, with gaps for what is each machine's own. */
async function templateOf({ fleet, image }: Host): Promise<string> {
  const name = newName()
  const specification = {
    ...{ name, image, profile: 'starter', cpus: 1 },
    memoryBytes: MEMORY_BYTES,
    rootDiskBytes: ROOT_DISK_BYTES
  }
  const created = await ask(fleet, 'OperationReply', 'POST', '/v1/vms', { specification })
  await ended(fleet, created.operation)
  const xml = await virsh(fleet, 'dumpxml', '--inactive', name)
  const removed = await ask(fleet, 'OperationReply', 'DELETE', `/v1/vms/${name}`)
  await ended(fleet, removed.operation)
  return xml
    .replace(/<metadata>[\s\S]*<\/metadata>/, '')
    .replace(/<uuid>[^<]*<\/uuid>/, '<uuid>UUID</uuid>')
    .replace(/<name>[^<]*<\/name>/, '<name>NAME</name>')
    .replace(/<mac address=[^>]*\/>/, '')
    .replace(/<source file='[^']*\.root\.qcow2'/, "<source file='ROOT'")
}

async function byHand({ fleet, watcher, image }: Host, template: string): Promise<number> {
  const name = newName()
  const root = join(fleet.poolDirectory, `${name}.root.qcow2`)
  const base = join(fleet.poolDirectory, `base-${image.sha256}.qcow2`)
  const file = join(fleet.libvirtd.directory, `${name}.xml`)
  writeFileSync(file, template.replace('NAME', name).replace('UUID', randomUUID()).replace('ROOT', root))
  const started = watcher.started(name)
  const start = performance.now()
  await run('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-b',
    base,
    '-F',
    'qcow2',
    root,
    String(ROOT_DISK_BYTES)
  ])
  await virsh(fleet, 'define', file)
  await virsh(fleet, 'start', name)
  const elapsedMs = (await started) - start
  await virsh(fleet, 'destroy', name)
  await virsh(fleet, 'undefine', name)
  rmSync(root)
  return elapsedMs
}

async function virsh({ libvirtd }: Fleet, ...words: string[]): Promise<string> {
  const { stdout } = await run('virsh', ['-q', '-c', libvirtd.virshUri, ...words])
  return stdout
}

function newName(): string {
  return `bench-${randomUUID().slice(0, 8)}`
}

function ask<Name extends Parameters<Fleet['api']['ask']>[1]>(
  { api }: Fleet,
  name: Name,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  body?: unknown
) {
  return api.ask({ method, path, body, signal: AbortSignal.timeout(WAIT_MS) }, name)
}

async function ended(fleet: Fleet, { id }: OperationView): Promise<void> {
  const { operation } = await fleet.api.ask(
    {
      method: 'GET',
      path: `/v1/operations/${id}/wait`,
      query: { timeoutMs: WAIT_MS },
      waitMs: WAIT_MS,
      signal: AbortSignal.timeout(2 * WAIT_MS)
    },
    'OperationReply'
  )
  if (operation.state !== 'done')
    throw new Error(`${operation.verb} ${operation.state} at ${operation.step}: ${operation.next}`)
}
