// Looks at everything that a snapshot needs, and says of each thing that is wrong what it is and what of which disk it costs.

import { HostletError } from '../../errors.ts'
import { blockBytes, type Wait } from '../disk.ts'
import type { ObjectStore } from '../repository/store.ts'
import { manifestName } from '../vault/envelope.ts'
import type { ManifestBody, ManifestDisk } from '../vault/manifest-body.ts'
import type { BadSnapshot, SnapshotSummary } from '../vault/read-manifest.ts'
import type { WantedBlock } from './block-runs.ts'
import { type BlockConsumer, DiskReader, type LostBlock } from './disk-reader.ts'
import type { Fault, FaultKind, StoredFault } from './fault.ts'
import type { LostNode } from './tree.ts'

/** Faults that are told one by one; the rest is only counted. */
export const faultsMax = 1_000

/** `data` reads and opens every block; `structure` only the trees and the tables of all packs that they need. */
export type VerifyDepth = 'data' | 'structure'

export interface VerifyReport {
  readonly outcome: 'good' | 'bad'
  readonly depth: VerifyDepth
  /** The first ones, at most `faultsMax`. */
  readonly faults: readonly Fault[]
  readonly faultCount: number
  /** Blocks that are sound, and those that are lost. */
  readonly goodBlocks: number
  readonly lostBlocks: number
}

export interface VerifyProgress {
  readonly doneBytes: number
  readonly totalBytes: number
}

export interface VerifyOptions extends Wait {
  readonly store: ObjectStore
  /** UUID of the VM. */
  readonly vm: string
  /** As `Vault.snapshots` gives it, good or bad: of a bad one the report says what is wrong with its manifest. */
  readonly snapshot: SnapshotSummary
  /** `data` unless said otherwise. */
  readonly depth?: VerifyDepth
  readonly workers?: number | undefined
  readonly onProgress?: (progress: VerifyProgress) => void
}

/** Never throws for what is stored, only for a store that does not answer and for the signal. Writes nothing. */
export async function verifySnapshot(options: VerifyOptions): Promise<VerifyReport> {
  const { snapshot, depth = 'data' } = options
  const report = new Findings(depth)
  if (snapshot.state === 'bad') report.add(manifestFault(options.vm, snapshot))
  else await verifyDisks(options, snapshot.body, snapshot.vmKey, report)
  return report.result()
}

async function verifyDisks(
  options: VerifyOptions,
  body: ManifestBody,
  vmKey: Uint8Array,
  report: Findings
): Promise<void> {
  const totalBytes = body.disks.reduce((sum, disk) => sum + disk.allocatedBytes, 0)
  await using reader = new DiskReader({ ...options, vmKey })
  for (const disk of body.disks)
    await reader.read(
      disk,
      new DiskCheck(disk, report, () => {
        const doneBytes = (report.goodBlocks + report.lostBlocks) * blockBytes
        options.onProgress?.({ doneBytes, totalBytes: Math.max(totalBytes, doneBytes) })
      })
    )
}

const kindOfReason: Readonly<Record<BadSnapshot['reason'], FaultKind>> = {
  damaged: 'bad-manifest',
  foreign: 'bad-manifest',
  unsupported: 'bad-manifest',
  'no-key': 'wrong-key',
  forged: 'forged-manifest',
  untrusted: 'forged-manifest'
}

function manifestFault(vm: string, { id, reason, message }: BadSnapshot): Fault {
  return { kind: kindOfReason[reason], object: manifestName({ vm, snapshot: id }), message }
}

/** Throws E_CORRUPT with the first fault in words when the report is bad. */
export function mustBeGood(report: VerifyReport): void {
  if (report.outcome === 'good') return
  const { faultCount, faults } = report
  const more = faultCount > 1 ? ` (and ${faultCount - 1} more faults)` : ''
  throw new HostletError('E_CORRUPT', `${faults[0]?.message ?? 'the snapshot is bad'}${more}`, {
    details: { faults: faultCount, kind: faults[0]?.kind ?? null, object: faults[0]?.object ?? null }
  })
}

class Findings {
  goodBlocks = 0
  lostBlocks = 0
  readonly #depth: VerifyDepth
  readonly #faults: Fault[] = []
  #faultCount = 0

  constructor(depth: VerifyDepth) {
    this.#depth = depth
  }

  get depth(): VerifyDepth {
    return this.#depth
  }

  add(fault: Fault): void {
    this.#faultCount++
    if (this.#faults.length < faultsMax) this.#faults.push(fault)
  }

  result(): VerifyReport {
    const { goodBlocks, lostBlocks } = this
    const outcome = this.#faultCount === 0 ? 'good' : 'bad'
    const faults = [...this.#faults].sort(byPlace)
    return { outcome, depth: this.#depth, faults, faultCount: this.#faultCount, goodBlocks, lostBlocks }
  }
}

function byPlace(one: Fault, other: Fault): number {
  const [left, right] = [one.disk ?? '', other.disk ?? '']
  if (left !== right) return left < right ? -1 : 1
  return (one.offset ?? 0) - (other.offset ?? 0)
}

class DiskCheck implements BlockConsumer {
  readonly read: BlockConsumer['read']
  readonly output = 'none'
  readonly #disk: ManifestDisk
  readonly #findings: Findings
  readonly #report: () => void

  constructor(disk: ManifestDisk, findings: Findings, report: () => void) {
    this.read = findings.depth === 'data' ? 'blocks' : 'tables'
    this.#disk = disk
    this.#findings = findings
    this.#report = report
  }

  async take(items: readonly { wanted: WantedBlock }[]): Promise<void> {
    for (const { wanted } of items) this.#findings.goodBlocks += wanted.blocks.length
    this.#report()
  }

  wrongHeader({ kind, object, message }: StoredFault): void {
    this.#findings.add({ kind, object, disk: this.#disk.role, message })
  }

  lostBlock({ wanted, kind, object, message }: LostBlock): void {
    this.#findings.lostBlocks += wanted.blocks.length
    for (const block of wanted.blocks)
      this.#findings.add({ kind, object, entry: wanted.entry, message, ...this.#place(block, 1) })
  }

  lostNode({ reference, firstBlock, blocks, fault }: LostNode): void {
    this.#findings.lostBlocks += blocks
    const { kind, object, message } = fault
    this.#findings.add({ kind, object, entry: reference.entry, message, ...this.#place(firstBlock, blocks) })
  }

  #place(block: number, blocks: number): Pick<Fault, 'disk' | 'offset' | 'lengthBytes'> {
    const offset = block * blockBytes
    return {
      disk: this.#disk.role,
      offset,
      lengthBytes: Math.min(blocks * blockBytes, this.#disk.sizeBytes - offset)
    }
  }
}
