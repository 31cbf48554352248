// Counters of all domains of ours, from one bulk call.

import {
  type Connection,
  connectGetAllDomainStats,
  type DomainStatistics,
  statisticsFlag,
  statisticsGroup
} from 'node-libvirt'
import { stateOf } from './domain-state.ts'
import type { DomainCounters, Wait } from './hypervisor.ts'
import { attempt } from './libvirt-errors.ts'
import { uuidText } from './uuid.ts'

const deadlineMs = 8_000
const { state, cpu, balloon, interface: card, block } = statisticsGroup
const groups = state | cpu | balloon | card | block

/** Frozen machines are answered without what only QEMU knows, so that one of them does not keep the others' back. */
export async function readCounters(
  connection: Connection,
  isOurs: (uuid: string) => boolean,
  wait: Wait
): Promise<readonly DomainCounters[]> {
  const args = { domains: [], groups, flags: statisticsFlag.noWait }
  const { statistics } = await attempt('read counters', () =>
    connection.call(connectGetAllDomainStats, args, { signal: wait.signal, deadlineMs })
  )
  return statistics.filter(({ domain }) => isOurs(uuidText(domain.uuid))).map(countersOf)
}

/** Field names: libvirt virConnectGetAllDomainStats. Memory is in KiB there. */
export function countersOf({ domain, parameters }: DomainStatistics): DomainCounters {
  const values = new Map(parameters.map(({ field, value }) => [field, value]))
  const number = (field: string) => numberOf(values.get(field))
  const kib = (field: string) => scale(number(field), 1024)
  const disks = indices(values, 'block').filter((index) => isDisk(values.get(`block.${index}.name`)))
  const ofDisks = (field: string) => sum(disks.map((index) => number(`block.${index}.${field}`)))
  const ofCards = (field: string) =>
    sum(indices(values, 'net').map((index) => number(`net.${index}.${field}`)))
  return {
    name: domain.name,
    uuid: uuidText(domain.uuid),
    state: stateOf({ state: number('state.state') ?? 0, reason: number('state.reason') ?? 0 }).state,
    ...present({
      cpuNanoseconds: number('cpu.time'),
      memoryMaximumBytes: kib('balloon.maximum'),
      memoryResidentBytes: kib('balloon.rss'),
      memoryAvailableBytes: kib('balloon.usable'),
      diskCapacityBytes: ofDisks('capacity'),
      diskAllocationBytes: ofDisks('allocation'),
      diskReadBytes: ofDisks('rd.bytes'),
      diskWriteBytes: ofDisks('wr.bytes'),
      diskReads: ofDisks('rd.reqs'),
      diskWrites: ofDisks('wr.reqs'),
      receiveBytes: ofCards('rx.bytes'),
      transmitBytes: ofCards('tx.bytes'),
      receivePackets: ofCards('rx.pkts'),
      transmitPackets: ofCards('tx.pkts'),
      receiveDrops: ofCards('rx.drop'),
      transmitDrops: ofCards('tx.drop')
    })
  }
}

type Value = DomainStatistics['parameters'][number]['value'] | undefined
type Present<Figures> = { [Key in keyof Figures]?: Exclude<Figures[Key], undefined> }

function present<Figures extends object>(figures: Figures): Present<Figures> {
  return Object.fromEntries(
    Object.entries(figures).filter(([, value]) => value !== undefined)
  ) as Present<Figures>
}

/** The seed's drive is none of the VM's disks. */
function isDisk(name: Value): boolean {
  return typeof name === 'string' && name.startsWith('vd')
}

function indices(values: ReadonlyMap<string, Value>, group: string): number[] {
  const count = numberOf(values.get(`${group}.count`)) ?? 0
  return Array.from({ length: count }, (_, index) => index)
}

function numberOf(value: Value): number | undefined {
  return typeof value === 'number' || typeof value === 'bigint' ? Number(value) : undefined
}

function scale(value: number | undefined, factor: number): number | undefined {
  return value === undefined ? undefined : value * factor
}

/** Of the figures that are known; undefined when none is, as for a machine that is off. */
function sum(figures: readonly (number | undefined)[]): number | undefined {
  const known = figures.filter((figure) => figure !== undefined)
  return known.length === 0 ? undefined : known.reduce((total, figure) => total + figure, 0)
}
