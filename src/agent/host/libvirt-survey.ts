// What "hostlet doctor" asks of libvirt: once, over a connection of its own, without changing anything.

import {
  type Connection,
  connect,
  connectGetCapabilities,
  domainGetAutostart,
  domainLookupByName,
  errorCode,
  poolState,
  storagePoolGetInfo,
  storagePoolLookupByName
} from 'node-libvirt'
import { Domains } from './domains.ts'
import type { Wait } from './hypervisor.ts'
import { fromLibvirt, isAnswer } from './libvirt-errors.ts'
import { find, findAll, readXml } from './xml-read.ts'

export interface LibvirtSurvey {
  readonly libvirtVersion: string
  readonly hypervisorVersion: string
  readonly kvmOffered: boolean
  /** Security drivers in force: `dac`, `apparmor`, `selinux`. */
  readonly securityModels: readonly string[]
  /** VMs of ours. */
  readonly vms: readonly { readonly name: string; readonly autostart: boolean }[]
  /** Those of the configuration. */
  readonly pools: readonly {
    readonly name: string
    /** `silent`: libvirt did not say in time. */
    readonly state: 'running' | 'stopped' | 'undefined' | 'silent'
  }[]
}

export interface SurveyOptions {
  readonly uri: string
  readonly socket?: string | undefined
  /** Name of our pool. */
  readonly pool: string
  /** Names of others of ours. */
  readonly otherPools?: readonly string[]
}

const deadlineMs = 15_000
const poolMs = 5_000

/** Throws E_UNAVAILABLE when libvirt does not answer. */
export async function surveyLibvirt(options: SurveyOptions, wait: Wait): Promise<LibvirtSurvey> {
  const { uri, socket } = options
  const target = socket === undefined ? uri : `${uri}?socket=${encodeURIComponent(socket)}`
  const { signal } = wait
  try {
    const connection = await connect(target, { signal, deadlineMs })
    try {
      return await survey(connection, options, wait)
    } finally {
      await connection.close()
    }
  } catch (error) {
    throw fromLibvirt(error, `connect to ${uri}`)
  }
}

async function survey(
  connection: Connection,
  { pool, otherPools = [] }: SurveyOptions,
  wait: Wait
): Promise<LibvirtSurvey> {
  const options = { ...wait, deadlineMs }
  const { capabilities } = await connection.call(connectGetCapabilities, {}, options)
  const root = readXml(capabilities)
  const models = findAll(find(root, 'host'), 'secmodel').map((model) => find(model, 'model')?.text ?? '')
  const offers = findAll(root, 'guest').flatMap((guest) => findAll(find(guest, 'arch'), 'domain'))
  const { libvirtVersion, hypervisorVersion } = connection.facts
  return {
    libvirtVersion,
    hypervisorVersion,
    kvmOffered: offers.some(({ attributes }) => attributes.type === 'kvm'),
    securityModels: models,
    vms: await autostarts(connection, pool, wait),
    pools: await Promise.all([pool, ...otherPools].map((name) => poolOf(connection, name, wait)))
  }
}

async function autostarts(connection: Connection, pool: string, wait: Wait): Promise<LibvirtSurvey['vms']> {
  const unused = () => Promise.reject(new Error('nothing is defined or started here'))
  const ways = { environment: unused, gate: unused, contain: unused }
  const domains = new Domains({ connection: () => connection, pool, ...ways })
  const found: { name: string; autostart: boolean }[] = []
  for (const { specification } of await domains.list(wait)) {
    const { name } = specification
    const { domain } = await connection.call(domainLookupByName, { name }, { ...wait, deadlineMs })
    const { autostart } = await connection.call(domainGetAutostart, { domain }, { ...wait, deadlineMs })
    found.push({ name, autostart: Boolean(autostart) })
  }
  return found
}

/** A pool whose storage hangs may hold up who asks about it: then that is what is found. */
async function poolOf(
  connection: Connection,
  name: string,
  wait: Wait
): Promise<LibvirtSurvey['pools'][number]> {
  const options = { ...wait, deadlineMs: poolMs }
  try {
    const { pool } = await connection.call(storagePoolLookupByName, { name }, options)
    const { state } = await connection.call(storagePoolGetInfo, { pool }, options)
    return { name, state: state === poolState.inactive ? 'stopped' : 'running' }
  } catch (error) {
    wait.signal.throwIfAborted()
    return { name, state: isAnswer(error, errorCode.noStoragePool) ? 'undefined' : 'silent' }
  }
}
