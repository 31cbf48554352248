// What waits to be sent: bounded, in the order that the scheduler needs, and of it only metrics may be lost.

import type { BackupReport } from '../../protocol/backup.ts'
import type { CommandResult } from '../../protocol/command.ts'
import type { ErasureNotice } from '../../protocol/lifecycle.ts'
import {
  type AgentMessage,
  type AgentMessageOf,
  messageBytesMax,
  type VmEvent
} from '../../protocol/messages.ts'
import type { MetricsSample } from '../../protocol/metrics.ts'

/** Events kept one by one; beyond, only the latest of each VM. */
export const eventsMax = 1_024
/** VMs whose latest event is kept; the oldest go first. */
export const eventVmsMax = 16_384
/** Bytes that the socket may hold before metrics and events wait. */
export const socketBytesMax = 2 * messageBytesMax

/** Bytes of one message about backups or erases. */
export const backupsBytesMax = messageBytesMax / 4

/** The part of a connection that sends. */
export interface Wire {
  /** False once it is closing: what is sent then is lost. */
  readonly isOpen: boolean
  send(message: AgentMessage): void
  /** Bytes handed over that the kernel has not taken. */
  readonly bufferedBytes: number
}

export interface OutboxSources {
  /** Results that the scheduler has not acknowledged; a bounded number. */
  results(): readonly CommandResult[]
  /** Runs of backups that it has not acknowledged; a bounded number. */
  backups?(): readonly BackupReport[]
  /** Certificates of what the host erased by itself that it has not acknowledged; a bounded number. */
  erasures?(): readonly ErasureNotice[]
  readonly metrics: { take(): MetricsSample[] }
  /** Where the first three lie. Nothing of them is told that the disk may not have: the scheduler would know what this host forgets. */
  readonly disk?: { readonly isDurable: boolean; durable(): Promise<void> }
}

export class Outbox {
  readonly #sources: OutboxSources
  #wire: Wire | undefined
  #inventory: AgentMessageOf<'inventory'> | undefined
  #events: VmEvent[] = []

  constructor(sources: OutboxSources) {
    this.#sources = sources
  }

  /** Events that wait. */
  get waiting(): number {
    return this.#events.length
  }

  /** The connection is up: everything that waits goes out. */
  attach(wire: Wire): void {
    this.#wire = wire
    this.resend()
  }

  detach(): void {
    this.#wire = undefined
  }

  /**
   * Sends, or keeps what must not be lost. Where the connection is gone answers to commands are dropped, because the scheduler
   * sends the command again and is answered anew; results come from the journal.
   */
  post(message: AgentMessage): void {
    if (message.type === 'inventory') this.#inventory = message
    else if (message.type === 'event') this.#keep(message)
    else this.#wire?.send(message)
    this.pump()
  }

  /**
   * Tells the refusal of a command over the connection that is up now, and over no later one: there the command comes again,
   * and its refusal would be taken for the answer to what came last, which may yet be taken.
   */
  refusing(): (message: AgentMessageOf<'refusal'>) => void {
    const wire = this.#wire
    return (message) => {
      if (this.#wire === wire) this.post(message)
    }
  }

  /** Sends results once more, as many as the socket takes: the rest follows with the next time. Then whatever waits. */
  resend(): void {
    const results = this.#openWire() === undefined ? [] : this.#sources.results()
    this.#whenDurable((wire) => {
      for (const result of results)
        if (wire.bufferedBytes < socketBytesMax) wire.send({ type: 'result', result })
    })
    this.tellBackups()
    this.tellErasures()
    this.pump()
  }

  /** Sends reports of backups that are not acknowledged: after a new one, and after an acknowledgement for those behind it. */
  tellBackups(): void {
    const wire = this.#openWire()
    if (wire === undefined || wire.bufferedBytes >= socketBytesMax) return
    const reports = fitting(this.#sources.backups?.() ?? [])
    if (reports.length > 0) this.#whenDurable((open) => open.send({ type: 'backups', reports }))
  }

  /** As of backups. */
  tellErasures(): void {
    const wire = this.#openWire()
    if (wire === undefined || wire.bufferedBytes >= socketBytesMax) return
    const certificates = fitting(this.#sources.erasures?.() ?? [])
    if (certificates.length > 0) this.#whenDurable((open) => open.send({ type: 'erasures', certificates }))
  }

  /** Sends what waits while the socket takes it: the inventory, then events, then metrics. */
  pump(): void {
    const wire = this.#openWire()
    if (wire === undefined) return
    if (this.#inventory !== undefined) wire.send(this.#inventory)
    this.#inventory = undefined
    while (this.#events.length > 0 && wire.bufferedBytes < socketBytesMax) {
      const event = this.#events.shift()
      if (event !== undefined) wire.send(event)
    }
    this.#pumpMetrics(wire)
  }

  /** At once where the disk has everything; not at all once the disk has failed, for then the agent starts anew. */
  #whenDurable(tell: (wire: Wire) => void): void {
    const { disk } = this.#sources
    const now = () => {
      const wire = this.#openWire()
      if (wire !== undefined) tell(wire)
    }
    if (disk === undefined || disk.isDurable) now()
    else disk.durable().then(now, () => undefined)
  }

  #openWire(): Wire | undefined {
    return this.#wire?.isOpen ? this.#wire : undefined
  }

  #pumpMetrics(wire: Wire): void {
    while (wire.bufferedBytes < socketBytesMax) {
      const samples = this.#sources.metrics.take()
      if (samples.length === 0) return
      wire.send({ type: 'metrics', samples })
    }
  }

  #keep(event: VmEvent): void {
    this.#events.push(event)
    if (this.#events.length > eventsMax) this.#events = latestOfEach(this.#events)
  }
}

/** What was left out is in the inventory that each connection begins with. */
function latestOfEach(events: readonly VmEvent[]): VmEvent[] {
  const latest = new Map<string, VmEvent>()
  for (const event of events) {
    latest.delete(event.uuid)
    latest.set(event.uuid, event)
  }
  return [...latest.values()].slice(-eventVmsMax)
}

/** The first ones, as many as a message holds; at least one, each of which is far smaller than that. */
function fitting<Report>(reports: readonly Report[]): Report[] {
  let bytes = 0
  return reports.filter((report, index) => {
    bytes += Buffer.byteLength(JSON.stringify(report))
    return index === 0 || bytes <= backupsBytesMax
  })
}
