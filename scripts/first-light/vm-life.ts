// The life of a VM as steps: enroll, provision, answer, metrics; then stop, start, remove.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { apiPath } from '../../src/cli/api-client.ts'
import { formatBytes, formatRatio } from '../../src/cli/quantities.ts'
import type { CreatedToken, OperationReply } from '../../src/protocol/api.ts'
import type { AuditItem } from '../../src/protocol/audit.ts'
import { backupSteps } from './backups.ts'
import type { Fleet } from './fleet.ts'
import { fetchText, guestPort } from './guest.ts'
import type { Story } from './story.ts'
import { virshNames } from './virsh.ts'

/** What the guest of scripts/guest says of itself. */
interface GuestPage {
  readonly hostname: string
  readonly bootId: string
  readonly boots: number
  readonly dataBoots: number | null
}

/** Ends with a running VM whose guest answers, whose figures have arrived, and whose backups were restored once. */
export async function firstSteps(fleet: Fleet, story: Story): Promise<void> {
  const { vm } = fleet.settings
  await story.step('scheduler', () => fleet.startScheduler())
  await story.step('enroll', () => enroll(fleet))
  await story.step('agent', () => startAgent(fleet))
  await story.step('provision', async () => `VM ${vm} is ready at ${await provision(fleet)}`)
  await story.step('guest answers', async () => describe(await guestPage(fleet)))
  await story.step('metrics', () => metrics(fleet))
  await story.step('isolation', () => audit(fleet))
  await backupSteps(fleet, story)
}

/** From there to no VM at all. */
export async function restOfLife(fleet: Fleet, story: Story): Promise<void> {
  const { vm } = fleet.settings
  const before = await guestPage(fleet)
  await story.step('stop', async () => {
    const { operation } = (await fleet.hostlet(['vm', 'stop', vm])) as OperationReply
    await assertDomain(fleet, ['--state-shutoff'])
    return operation.value?.forced === true ? 'its power was cut' : 'the guest shut itself down'
  })
  await story.step('start', async () => {
    await fleet.hostlet(['vm', 'start', vm])
    const page = await guestPage(fleet)
    if (page.bootId === before.bootId || page.boots !== before.boots + 1 || page.dataBoots !== page.boots)
      throw new Error(
        `the guest did not boot anew from the same disks: before ${JSON.stringify(before)}, now ${JSON.stringify(page)}`
      )
    return describe(page)
  })
  await story.step('remove', async () => {
    const { operation } = (await fleet.hostlet(['vm', 'rm', vm, '--now', '--yes'])) as OperationReply
    const removed = operation.value?.removed
    return `VM ${vm} is gone: ${Array.isArray(removed) ? removed.join(', ') : 'all of it'}`
  })
}

export async function enroll(fleet: Fleet): Promise<string> {
  const { settings } = fleet
  const created = (await fleet.hostlet([
    'host',
    'token',
    '--ttl',
    '5m',
    '--note',
    settings.name
  ])) as CreatedToken
  const tokenFile = join(settings.directory, 'token')
  writeFileSync(tokenFile, created.token, { mode: 0o600 })
  const words = ['enroll', '--scheduler', created.url, '--token-file', tokenFile, '--ca-hash', created.caHash]
  await fleet.hostlet([...words, '--config', settings.agentConfig], { json: false })
  const { hosts } = await fleet.client.ask(
    { method: 'GET', path: '/v1/hosts', signal: fleet.signal },
    'HostList'
  )
  return `this machine is host ${hosts[0]?.id ?? '?'}, certificate and key made`
}

export async function startAgent(fleet: Fleet): Promise<string> {
  fleet.startAgent()
  let facts = ''
  await fleet.until(async () => {
    const { hosts } = await fleet.client.ask(
      { method: 'GET', path: '/v1/hosts', signal: fleet.signal },
      'HostList'
    )
    const host = hosts[0]
    if (host?.state !== 'connected' || host.hypervisor !== 'connected' || host.facts === undefined)
      return false
    facts = `libvirt ${host.facts.libvirtVersion}, QEMU ${host.facts.hypervisorVersion}, ${host.facts.accelerator}`
    return true
  }, 'the agent to connect to scheduler and libvirt')
  return `connected by mutual TLS; ${facts}`
}

async function provision(fleet: Fleet): Promise<string> {
  const { image, imageDigest, vm } = fleet.settings
  const digest = readFileSync(imageDigest, 'utf8').trim()
  const source = ['--image', pathToFileURL(image).href, '--sha256', digest]
  const size = ['--cpus', '1', '--memory', '128MiB', '--disk', '256MiB', '--data-disk', '64MiB']
  const words = ['vm', 'create', vm, ...source, ...size, '--ready-port', String(guestPort)]
  const { operation } = (await fleet.hostlet(words)) as OperationReply
  await assertDomain(fleet, ['--state-running'])
  const address = operation.value?.address
  if (typeof address !== 'string')
    throw new Error('the VM is ready, but its operation does not tell its address')
  return address
}

/** What is the host's to give, and two runs at a time share, is told and left. */
const ofTheHost: ReadonlySet<string> = new Set(['confinement', 'process-limit', 'own-user'])

/** What the kernel and libvirt say of the running machine, item by item. */
async function audit(fleet: Fleet): Promise<string> {
  const { client, signal, settings } = fleet
  const path = `${apiPath('vms', settings.vm)}/audit`
  const asked = await client.ask({ method: 'POST', path, body: {}, signal }, 'OperationReply')
  let { operation } = asked
  await fleet.until(async () => {
    const request = { method: 'GET', path: apiPath('operations', operation.id), signal } as const
    operation = (await client.ask(request, 'OperationReply')).operation
    return operation.finishedAt !== undefined
  }, 'the audit of the VM')
  const items = (operation.value?.items ?? []) as AuditItem[]
  const broken = items.filter(({ id, answer }) => answer === 'no' && !ofTheHost.has(id))
  if (items.length === 0 || broken.length > 0)
    throw new Error(`not as promised: ${broken.map(({ title, why }) => `${title} (${why})`).join('; ')}`)
  const of = (answer: string) => items.filter((item) => item.answer === answer)
  const lacking = of('no').map(({ title }) => title)
  const rest = lacking.length === 0 ? '' : `; no: ${lacking.join(', ')}`
  return `audited: ${of('yes').length} of ${items.length} yes, encrypted disks and rules at its port among them${rest}`
}

async function metrics(fleet: Fleet): Promise<string> {
  let said = ''
  await fleet.until(async () => {
    const { client, signal } = fleet
    const latest = await client.ask({ method: 'GET', path: '/v1/metrics/latest', signal }, 'LatestMetrics')
    const host = latest.hosts[0]?.sample
    const sample = latest.vms[0]?.sample
    if (host === undefined || sample?.cpuCoresUsed === undefined) return false
    const memory =
      sample.memoryResidentBytes === undefined ? '' : `, ${formatBytes(sample.memoryResidentBytes)} of memory`
    said = `host ${formatRatio(host.cpuUsedRatio)} CPU; VM ${formatRatio(sample.cpuCoresUsed)} of a core${memory}`
    return true
  }, 'metrics of host and VM')
  return said
}

/** From the guest's own web server, so that network, disk and boot are proven at once. */
async function guestPage(fleet: Fleet): Promise<GuestPage> {
  const { vm } = fleet.settings
  let page: GuestPage | undefined
  await fleet.until(async () => {
    const request = { method: 'GET', path: apiPath('vms', vm), signal: fleet.signal } as const
    const { address } = (await fleet.client.ask(request, 'VmReply')).vm
    page = address === undefined ? undefined : await fetchPage(address, fleet.signal)
    return page !== undefined
  }, 'the guest to answer on its port')
  if (page?.hostname !== vm)
    throw new Error(`the guest calls itself ${page?.hostname}, not ${vm}: its seed was not read`)
  return page
}

function describe(page: GuestPage): string {
  return `http on port ${guestPort}: ${page.hostname}, boot ${page.boots}`
}

/** Undefined while nothing answers. */
async function fetchPage(host: string, signal: AbortSignal): Promise<GuestPage | undefined> {
  const text = await fetchText({ host, path: '/', signal })
  return text === undefined ? undefined : (JSON.parse(text) as GuestPage)
}

/** libvirt's own view, so that not only our word stands for it. */
async function assertDomain(fleet: Fleet, state: readonly string[]): Promise<void> {
  const names = await virshNames('list', '--name', '--all', ...state)
  if (!names.includes(fleet.settings.vm))
    throw new Error(`virsh list ${state.join(' ')} does not show ${fleet.settings.vm}`)
}
