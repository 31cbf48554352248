// VMs as libvirt's domains: which are ours, what they carry, and what can be done to one.

import {
  type Connection,
  type Domain,
  deviceModifyFlag,
  domainCreateWithFlags,
  domainDefineXml,
  domainDestroyFlags,
  domainGetState,
  domainLookupByName,
  domainLookupByUuid,
  domainReboot,
  domainRebootFlag,
  domainReset,
  domainSetMetadata,
  domainShutdownFlag,
  domainShutdownFlags,
  domainState,
  domainUndefineFlag,
  domainUndefineFlags,
  domainUpdateDeviceFlags,
  errorCode,
  metadataType,
  modificationImpact
} from 'node-libvirt'
import { HostletError } from '../../errors.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { ForeignDomain } from '../../protocol/vm.ts'
import type { ConnectionRole } from './connections.ts'
import { DomainLooks, runOf } from './domain-looks.ts'
import { stateOf } from './domain-state.ts'
import { type DomainEnvironment, domainXml, emptySeedDriveXml } from './domain-xml.ts'
import {
  backupReason,
  type StartGate,
  type VmChange,
  type VmDefinition,
  type VmRecord,
  type Wait
} from './hypervisor.ts'
import { attempt, fromLibvirt, isAnswer, orAbsent } from './libvirt-errors.ts'
import { changed, metadataElementPlain, type VmMetadata } from './metadata.ts'
import { metadataNamespace, metadataPrefix } from './names.ts'
import { readMark } from './pause-mark.ts'
import type { Look } from './quarantine.ts'
import { uuidBytes, uuidText } from './uuid.ts'
import { renderXml } from './xml.ts'

const quickMs = 10_000
const startMs = 120_000
/** libvirt itself waits 15 s for QEMU to end before it kills it. */
const destroyMs = 60_000

export interface DomainsOptions {
  readonly connection: (role: ConnectionRole) => Connection
  /** Name of our pool. */
  readonly pool: string
  readonly environment: (wait: Wait) => Promise<DomainEnvironment>
  /** Asked before each start of a domain that is off. */
  readonly gate: StartGate
  /** What a machine that has just started must have on it. One that cannot is switched off again. */
  readonly contain: (domain: Domain, metadata: VmMetadata, wait: Wait) => Promise<void>
}

export class Domains {
  readonly #options: DomainsOptions
  /** Who reads a definition to write it anew, whole or its metadata, holds its name. */
  readonly changes = new KeyedLock()
  readonly looks: DomainLooks

  constructor(options: DomainsOptions) {
    this.#options = options
    this.looks = new DomainLooks(options)
  }

  async list(wait: Wait): Promise<readonly VmRecord[]> {
    const all = await this.looks.all('list VMs', wait)
    const records = await Promise.all(all.map(({ domain, look }) => this.#record(domain, look, wait)))
    return records.filter((record) => record !== undefined)
  }

  async listForeign(wait: Wait): Promise<readonly ForeignDomain[]> {
    const all = await this.looks.all('list domains', wait)
    const found = await Promise.all(all.map(({ domain, look }) => this.#foreign(domain, look, wait)))
    return found.filter((domain) => domain !== undefined)
  }

  async find(name: string, wait: Wait): Promise<VmRecord | undefined> {
    const domain = await this.#lookup(name, wait)
    return domain && (await this.#record(domain, await this.looks.one(domain, wait), wait))
  }

  async define(definition: VmDefinition, wait: Wait): Promise<void> {
    const { name, uuid } = definition.specification
    const doing = `define VM ${name}`
    const byName = await this.#lookup(name, wait)
    const byUuid = await this.#lookupUuid(uuid, name, wait)
    await this.#refuseOther(byName, { name, uuid }, wait)
    await this.#refuseOther(byUuid, { name, uuid }, wait)
    const xml = domainXml(definition, await this.#options.environment(wait))
    await attempt(doing, () => this.#jobs.call(domainDefineXml, { xml }, { ...wait, deadlineMs: quickMs }))
    this.looks.noteOurs(uuid)
  }

  async annotate(name: string, change: VmChange, wait: Wait): Promise<void> {
    await using _held = await this.changes.acquire(name, wait.signal)
    const { domain, metadata } = await this.require(name, wait)
    const xml = renderXml(metadataElementPlain(changed(metadata, change)))
    // The definition only: a running machine's own copy is never read, and ends with it.
    const args = {
      domain,
      type: metadataType.element,
      metadata: xml,
      key: metadataPrefix,
      uri: metadataNamespace,
      flags: modificationImpact.config
    }
    await attempt(`annotate VM ${name}`, () => this.#control.call(domainSetMetadata, args, quick(wait)))
  }

  async start(name: string, wait: Wait, flags = 0): Promise<void> {
    const { domain, metadata } = await this.require(name, wait)
    const doing = `start VM ${name}`
    await this.#unless(domain, doing, isOn, wait, async () => {
      await this.#options.gate(metadata, wait)
      await this.#jobs.call(domainCreateWithFlags, { domain, flags }, { ...wait, deadlineMs: startMs })
      await this.#contain(name, wait)
    })
  }

  /** Given up by its caller, the machine is left running: the agent looks after its limits when it is ready again. */
  async #contain(name: string, wait: Wait): Promise<void> {
    const { domain, metadata } = await this.require(name, wait)
    try {
      await this.#options.contain(domain, metadata, wait)
    } catch (error) {
      if (wait.signal.aborted || isOff(await this.stateOf(domain, `start VM ${name}`, wait))) throw error
      await this.cutPower(name, wait)
      throw error
    }
  }

  async pressPowerButton(name: string, wait: Wait): Promise<void> {
    const { domain } = await this.require(name, wait)
    const flags = domainShutdownFlag.acpiPowerButton
    await this.#unless(domain, `press the power button of VM ${name}`, isGoingOff, wait, () =>
      this.#control.call(domainShutdownFlags, { domain, flags }, quick(wait))
    )
  }

  async requestReboot(name: string, wait: Wait): Promise<void> {
    const { domain } = await this.require(name, wait)
    const flags = domainRebootFlag.acpiPowerButton
    await attempt(`reboot VM ${name}`, () => this.#control.call(domainReboot, { domain, flags }, quick(wait)))
  }

  async reset(name: string, wait: Wait): Promise<void> {
    const { domain } = await this.require(name, wait)
    await attempt(`reset VM ${name}`, () =>
      this.#control.call(domainReset, { domain, flags: 0 }, quick(wait))
    )
  }

  async cutPower(name: string, wait: Wait): Promise<void> {
    const { domain } = await this.require(name, wait)
    const options = { ...wait, deadlineMs: destroyMs }
    await this.#unless(domain, `cut the power of VM ${name}`, isOff, wait, () =>
      this.#control.call(domainDestroyFlags, { domain, flags: 0 }, options)
    )
  }

  async ejectSeed(name: string, wait: Wait): Promise<void> {
    const { domain } = await this.require(name, wait)
    const doing = `eject the seed of VM ${name}`
    const on = isOn(await this.stateOf(domain, doing, wait))
    const flags = deviceModifyFlag.config | (on ? deviceModifyFlag.live | deviceModifyFlag.force : 0)
    await attempt(doing, async () => {
      const args = { domain, xml: emptySeedDriveXml(), flags }
      await this.#jobs
        .call(domainUpdateDeviceFlags, args, { ...wait, deadlineMs: destroyMs })
        // A VM that never had a seed has no such drive.
        .catch((error) => {
          if (!isAnswer(error, errorCode.deviceMissing) && !isAnswer(error, errorCode.invalidArgument))
            throw error
        })
    })
  }

  async undefine(name: string, wait: Wait): Promise<void> {
    const domain = await this.#lookup(name, wait)
    if (domain === undefined) return
    await this.#requireOurs(domain, wait)
    const { managedSave, snapshotsMetadata, nvram, checkpointsMetadata } = domainUndefineFlag
    const flags = managedSave | snapshotsMetadata | nvram | checkpointsMetadata
    await attempt(`remove the definition of VM ${name}`, () =>
      this.#jobs.call(domainUndefineFlags, { domain, flags }, { ...wait, deadlineMs: quickMs })
    )
  }

  get #control(): Connection {
    return this.#options.connection('control')
  }

  get #jobs(): Connection {
    return this.#options.connection('jobs')
  }

  /** Runs a change unless the domain is in the state already; also when it got there while being asked. */
  async #unless(
    domain: Domain,
    doing: string,
    done: (state: number) => boolean,
    wait: Wait,
    change: () => Promise<unknown>
  ): Promise<void> {
    if (done(await this.stateOf(domain, doing, wait))) return
    try {
      await change()
    } catch (error) {
      const late = isAnswer(error, errorCode.operationInvalid)
      if (late && done(await this.stateOf(domain, doing, wait))) return
      throw fromLibvirt(error, doing)
    }
  }

  /** As a number of libvirt's. */
  async stateOf(domain: Domain, doing: string, wait: Wait): Promise<number> {
    const reply = await attempt(doing, () =>
      this.#control.call(domainGetState, { domain, flags: 0 }, quick(wait))
    )
    return reply.state
  }

  async #lookup(name: string, wait: Wait): Promise<Domain | undefined> {
    const found = await orAbsent(errorCode.noDomain, `find VM ${name}`, () =>
      this.#control.call(domainLookupByName, { name }, quick(wait))
    )
    return found?.domain
  }

  async #lookupUuid(uuid: string, name: string, wait: Wait): Promise<Domain | undefined> {
    const found = await orAbsent(errorCode.noDomain, `find VM ${name}`, () =>
      this.#control.call(domainLookupByUuid, { uuid: uuidBytes(uuid) }, quick(wait))
    )
    return found?.domain
  }

  /** Undefined when the domain is gone meanwhile, or is not ours. */
  async #record(domain: Domain, look: Look | undefined, wait: Wait): Promise<VmRecord | undefined> {
    if (look?.kind !== 'ours') return undefined
    const state = await this.#stateWords(domain, wait)
    if (state === undefined) return undefined
    const forBackup = state.state === 'paused' && (await readMark(this.#control, domain, wait)) !== undefined
    const reason = forBackup ? backupReason : state.reason
    return { ...look.metadata, state: state.state, reason, run: runOf(domain) }
  }

  async #foreign(domain: Domain, look: Look, wait: Wait): Promise<ForeignDomain | undefined> {
    if (look.kind !== 'foreign') return undefined
    const state = await this.#stateWords(domain, wait)
    const { reason, detail } = look
    return state && { name: domain.name, uuid: uuidText(domain.uuid), state: state.state, reason, detail }
  }

  #stateWords(domain: Domain, wait: Wait) {
    return orAbsent(errorCode.noDomain, `look at domain ${domain.name}`, async () =>
      stateOf(await this.#control.call(domainGetState, { domain, flags: 0 }, quick(wait)))
    )
  }

  /** Throws E_NOT_FOUND, E_CONFLICT when it is somebody else's. */
  async require(name: string, wait: Wait): Promise<{ domain: Domain; metadata: VmMetadata }> {
    const domain = await this.#lookup(name, wait)
    if (domain === undefined) throw new HostletError('E_NOT_FOUND', `VM ${name} is not defined on this host`)
    return { domain, metadata: await this.#requireOurs(domain, wait) }
  }

  async #requireOurs(domain: Domain, wait: Wait): Promise<VmMetadata> {
    const look = await this.looks.one(domain, wait)
    if (look?.kind === 'ours') return look.metadata
    const why = look?.kind === 'foreign' && look.reason !== 'other' ? ` (${look.detail})` : ''
    throw new HostletError(
      'E_CONFLICT',
      `domain ${domain.name} exists on this host and is not hostlet's: it is never touched. Choose another name.${why}`
    )
  }

  async #refuseOther(
    found: Domain | undefined,
    wanted: { name: string; uuid: string },
    wait: Wait
  ): Promise<void> {
    if (found === undefined) return
    await this.#requireOurs(found, wait)
    const uuid = uuidText(found.uuid)
    if (found.name === wanted.name && uuid === wanted.uuid) return
    throw new HostletError(
      'E_CONFLICT',
      `VM ${wanted.name} (${wanted.uuid}) cannot be defined: VM ${found.name} (${uuid}) exists on this host. Tear that down first, or choose another name.`
    )
  }
}

function quick(wait: Wait): Wait & { deadlineMs: number } {
  return { signal: wait.signal, deadlineMs: quickMs }
}

function isOn(state: number): boolean {
  return !isOff(state)
}

/** Off, or on the way: QEMU may take a while to end after its guest has, as with a backup under way. */
function isGoingOff(state: number): boolean {
  return isOff(state) || state === domainState.shuttingDown
}

function isOff(state: number): boolean {
  return state === domainState.shutOff || state === domainState.crashed
}
