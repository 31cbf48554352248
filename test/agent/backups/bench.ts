// A host that takes backups, to try verbs on: the hypervisor in memory, a repository in memory, a policy file.

import { randomUUID } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type BackupParts, backupPartsInMemory } from '../../../src/agent/backups/backups.ts'
import { hostKeyName } from '../../../src/agent/backups/host-key.ts'
import type { MemoryDisk } from '../../../src/agent/host/memory-disk.ts'
import { createPrivateKey, type PrivateKey, publicHalf } from '../../../src/agent/keys/jwk.ts'
import type { Outcome } from '../../../src/agent/operations/verb.ts'
import type { DiskRole, VmBackupResult } from '../../../src/protocol/backup.ts'
import type { VmSpecification } from '../../../src/protocol/vm.ts'
import { MemoryStore, type MemoryStoreOptions } from '../../support/memory-store.ts'
import { type CertificateOptions, TestAuthority, trustDomain } from '../../support/test-authority.ts'
import { type Bench, type BenchOptions, carry, makeBench, succeed } from '../verbs/bench.ts'

export const source = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'
export const target = 'main'
export const vm = 'web-1'
const blockBytes = 65_536

/** What several hosts share: the CA of their fleet, its recovery key, and one repository. */
export interface Fleet {
  readonly authority: TestAuthority
  readonly recovery: PrivateKey
  readonly objects: MemoryStore['objects']
}

export async function makeFleet(): Promise<Fleet> {
  const authority = await TestAuthority.create()
  return { authority, recovery: await createPrivateKey(), objects: new MemoryStore().objects }
}

export type StoreFaults = { -readonly [Key in keyof MemoryStoreOptions]: MemoryStoreOptions[Key] }

export interface BackupBench extends AsyncDisposable {
  readonly bench: Bench
  readonly fleet: Fleet
  readonly parts: BackupParts
  readonly policyPath: string
  /** Faults of the repository, as a test sets them. */
  readonly store: StoreFaults
  readonly host: Bench['host']
  disk(role?: DiskRole, name?: string): MemoryDisk
  /** Fills blocks of a disk. */
  write(blocks: readonly number[], byte: number, role?: DiskRole): void
  content(role?: DiskRole, name?: string): Buffer
  policy(changes?: Record<string, unknown>): void
  hostKeyPath: string
}

export interface BackupBenchOptions extends BenchOptions {
  readonly fleet?: Fleet
  readonly hostId?: string
  /** How long the host's certificate is valid. */
  readonly certificate?: Pick<CertificateOptions, 'from' | 'to'>
  readonly specification?: Partial<VmSpecification>
  readonly provision?: boolean
}

/** With a VM web-1 of a root and a data disk that runs, unless told otherwise. */
export async function makeBackupBench(options: BackupBenchOptions = {}): Promise<BackupBench> {
  const { fleet = await makeFleet(), hostId = 'host-1', provision = true } = options
  const faults: StoreFaults = {}
  const uris = [`spiffe://${trustDomain}/host/${hostId}`]
  const { cert: certificate, key } = await fleet.authority.issue({ uris, ...options.certificate })
  const identity = { certificate, key, caCertificate: fleet.authority.certificate, trustDomain }
  const parts: BackupParts = {
    ...backupPartsInMemory(),
    instance: randomUUID(),
    workers: 1,
    identity: () => identity,
    openStore: async () =>
      new MemoryStore(
        {
          before: (call, name) => faults.before?.(call, name),
          after: (call, name) => faults.after?.(call, name)
        },
        fleet.objects
      )
  }
  const bench = await makeBench({ ...options, hostId, backups: parts })
  const policyPath = join(bench.directory, 'policy', 'policy.yaml')
  mkdirSync(join(bench.directory, 'policy'), { mode: 0o700 })
  const disk = (role: DiskRole = 'root', name = vm) => bench.hypervisor.backups.disk(name, role)
  const made: BackupBench = {
    bench,
    fleet,
    parts,
    policyPath,
    store: faults,
    host: bench.host,
    hostKeyPath: join(bench.directory, 'state', hostKeyName),
    disk,
    write: (blocks, byte, role) => {
      for (const block of blocks) disk(role).write(block * blockBytes, Buffer.alloc(blockBytes, byte))
    },
    content: (role, name) => disk(role, name).read(0, disk(role, name).sizeBytes),
    policy: (changes = {}) => {
      const policy = {
        repositories: { [target]: { url: 'file:///nowhere' } },
        recovery: [{ jwk: publicHalf(fleet.recovery) }],
        ...changes
      }
      writeFileSync(policyPath, JSON.stringify(policy), { mode: 0o600 })
    },
    [Symbol.asyncDispose]: () => bench[Symbol.asyncDispose]()
  }
  made.policy()
  if (provision) {
    const specification = bench.specification({
      rootDiskBytes: 1024 ** 2,
      dataDiskBytes: 2 * 1024 ** 2,
      ...options.specification
    })
    await succeed(bench.host, 'vm.provision', { specification })
    made.write([0, 1, 7], 0x11)
    if (specification.dataDiskBytes !== undefined) made.write([3], 0x22, 'data')
  }
  return made
}

export async function backUp(
  { host }: Pick<BackupBench, 'host'>,
  args: Record<string, unknown> = {}
): Promise<VmBackupResult> {
  return (await succeed(host, 'vm.backup', { vm, target, ...args })) as unknown as VmBackupResult
}

/** The error of a verb that must fail. */
export async function failure(
  host: Bench['host'],
  verb: string,
  args: Record<string, unknown>
): Promise<{ code: string; message: string }> {
  const outcome: Outcome = await carry(host, verb, args)
  if (outcome.outcome === 'failed') return outcome.error
  throw new Error(`${verb} succeeded although it should not have`)
}

export function wait(): { signal: AbortSignal } {
  return { signal: AbortSignal.timeout(30_000) }
}

/** Checkpoints that libvirt knows of the VM. */
export async function checkpoints({ bench }: BackupBench, name = vm): Promise<readonly string[]> {
  return await bench.hypervisor.listCheckpoints(name, wait())
}
