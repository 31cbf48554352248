// The reply that the decode figure decodes: statistics of many domains, named and typed as QEMU's driver sends them.

import { randomBytes } from 'node:crypto'
import { connectGetAllDomainStats } from '../../src/node-libvirt/protocol/statistics.ts'
import { encodeAll, type TypedParameterInput } from '../../src/node-libvirt/xdr/schema.ts'

const REPLY_BYTES_MAX = 33_554_436

type Kind = TypedParameterInput['type']

/** What `virsh domstats` shows of a running guest with two CPUs, one disk and one interface: 51 parameters. */
const fields: readonly (readonly [string, Kind])[] = [
  ['state.state', 'int'],
  ['state.reason', 'int'],
  ['cpu.time', 'ullong'],
  ['cpu.user', 'ullong'],
  ['cpu.system', 'ullong'],
  ['cpu.cache.monitor.count', 'uint'],
  ['balloon.current', 'ullong'],
  ['balloon.maximum', 'ullong'],
  ['balloon.swap_in', 'ullong'],
  ['balloon.swap_out', 'ullong'],
  ['balloon.major_fault', 'ullong'],
  ['balloon.minor_fault', 'ullong'],
  ['balloon.unused', 'ullong'],
  ['balloon.available', 'ullong'],
  ['balloon.usable', 'ullong'],
  ['balloon.last-update', 'ullong'],
  ['balloon.rss', 'ullong'],
  ['vcpu.current', 'uint'],
  ['vcpu.maximum', 'uint'],
  ['vcpu.0.state', 'int'],
  ['vcpu.0.time', 'ullong'],
  ['vcpu.0.wait', 'ullong'],
  ['vcpu.0.delay', 'ullong'],
  ['vcpu.1.state', 'int'],
  ['vcpu.1.time', 'ullong'],
  ['vcpu.1.wait', 'ullong'],
  ['vcpu.1.delay', 'ullong'],
  ['net.count', 'uint'],
  ['net.0.name', 'string'],
  ['net.0.rx.bytes', 'ullong'],
  ['net.0.rx.pkts', 'ullong'],
  ['net.0.rx.errs', 'ullong'],
  ['net.0.rx.drop', 'ullong'],
  ['net.0.tx.bytes', 'ullong'],
  ['net.0.tx.pkts', 'ullong'],
  ['net.0.tx.errs', 'ullong'],
  ['net.0.tx.drop', 'ullong'],
  ['block.count', 'uint'],
  ['block.0.name', 'string'],
  ['block.0.path', 'string'],
  ['block.0.rd.reqs', 'ullong'],
  ['block.0.rd.bytes', 'ullong'],
  ['block.0.rd.times', 'ullong'],
  ['block.0.wr.reqs', 'ullong'],
  ['block.0.wr.bytes', 'ullong'],
  ['block.0.wr.times', 'ullong'],
  ['block.0.fl.reqs', 'ullong'],
  ['block.0.fl.times', 'ullong'],
  ['block.0.allocation', 'ullong'],
  ['block.0.capacity', 'ullong'],
  ['block.0.physical', 'ullong']
]

export const parametersPerDomain = fields.length

export function statisticsReply(domains: number): Buffer {
  const statistics = Array.from({ length: domains }, (_, index) => ({
    domain: { name: `vm-${index}`, uuid: randomBytes(16), id: index + 1 },
    parameters: fields.map(([field, type], place) => parameter(field, type, index * fields.length + place))
  }))
  return encodeAll(connectGetAllDomainStats.result, { statistics }, REPLY_BYTES_MAX)
}

function parameter(field: string, type: Kind, seed: number): TypedParameterInput {
  switch (type) {
    case 'string':
      return { field, type, value: textOf(field, seed) }
    case 'ullong':
    case 'llong':
      // From small counters to beyond 2^32, as bytes and nanoseconds of a guest are.
      return { field, type, value: (seed * 2_654_435_761) % 2 ** (12 + (seed % 36)) }
    case 'boolean':
      return { field, type, value: seed % 2 === 0 }
    default:
      return { field, type, value: seed % 8 }
  }
}

function textOf(field: string, seed: number): string {
  if (field.endsWith('.path')) return `/var/lib/libvirt/images/pool/vm-${seed}.root.qcow2`
  return field.startsWith('net') ? `vnet${seed}` : 'vda'
}
