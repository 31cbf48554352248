// Values that fit the schemas, for tests to send.

import { createPrivateKey, publicHalf } from '../../../src/agent/keys/jwk.ts'
import type { BackupRecord, BackupReport } from '../../../src/protocol/backup.ts'
import type { EscrowedKey } from '../../../src/protocol/keys.ts'
import type { HostSample, MetricsSample, VmSample } from '../../../src/protocol/metrics.ts'
import type { HostFacts, VmSummary } from '../../../src/protocol/vm.ts'

/** Of every host of the tests. */
export const hostKey = await createPrivateKey()

export const gibibyte = 1024 ** 3

export function hostFacts(hostId: string, memoryBytes = 16 * gibibyte): HostFacts {
  return {
    hostId,
    hostname: hostId,
    agentVersion: '0.1.0',
    libvirtVersion: '9.0.0',
    hypervisorVersion: 'QEMU 7.2.0',
    accelerator: 'kvm',
    architecture: 'x86_64',
    kernel: '6.1.0',
    operatingSystem: 'Debian 12',
    cpuModel: 'test',
    cpus: 8,
    memoryBytes,
    poolCapacityBytes: 100 * gibibyte,
    poolAvailableBytes: 80 * gibibyte,
    bootedAt: 1_000,
    secretsKey: publicHalf(hostKey)
  }
}

export const uuid1 = '11111111-1111-4111-8111-111111111111'
export const uuid2 = '22222222-2222-4222-8222-222222222222'

export function vmSummary(change: Partial<VmSummary> = {}): VmSummary {
  return {
    name: 'web-1',
    uuid: uuid1,
    state: 'running',
    reason: 'booted',
    wanted: 'running',
    generation: 1,
    profile: 'starter',
    cpus: 1,
    memoryBytes: 256 * 1024 ** 2,
    address: '10.83.0.10',
    macAddress: '52:54:00:00:00:01',
    startedAt: 2_000,
    ...change
  }
}

/** As a person asks for it, without a UUID. */
export function specification(change: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    name: 'web-1',
    profile: 'starter',
    image: { url: 'https://images.example.org/a.qcow2', sha256: 'a'.repeat(64), format: 'qcow2' },
    cpus: 1,
    memoryBytes: 256 * 1024 ** 2,
    rootDiskBytes: 1024 ** 3,
    ...change
  }
}

export function hostSample(change: Partial<HostSample> = {}): HostSample {
  return {
    cpuUsedRatio: 0.1,
    cpuStealRatio: 0,
    loadAverage1m: 0.5,
    memoryTotalBytes: 16 * gibibyte,
    memoryAvailableBytes: 8 * gibibyte,
    swapUsedBytes: 0,
    poolCapacityBytes: 100 * gibibyte,
    poolAvailableBytes: 80 * gibibyte,
    receiveBytesTotal: 1,
    transmitBytesTotal: 1,
    receiveBytesPerSecond: 1,
    transmitBytesPerSecond: 1,
    diskReadBytesPerSecond: 1,
    diskWriteBytesPerSecond: 1,
    uptimeSeconds: 60,
    ...change
  }
}

export function vmSample(change: Partial<VmSample> = {}): VmSample {
  return { name: 'web-1', uuid: uuid1, state: 'running', cpuCoresUsed: 0.5, ...change }
}

export function metricsSample(at: number, vms: readonly VmSample[] = []): MetricsSample {
  return { at, host: hostSample(), vms: [...vms] }
}

export const snapshot1 = 'aaaaaaaa-1111-4111-8111-111111111111'
export const snapshot2 = 'aaaaaaaa-2222-4222-8222-222222222222'

export function backupRecord(host: string, change: Partial<BackupRecord> = {}): BackupRecord {
  return {
    snapshot: snapshot1,
    target: 'main',
    vm: 'web-1',
    uuid: uuid1,
    host,
    sequence: 1,
    previous: null,
    kind: 'full',
    consistency: 'crash',
    at: 10_000,
    durationMs: 1_500,
    disks: [{ role: 'root', sizeBytes: gibibyte, allocatedBytes: gibibyte / 4 }],
    readBytes: gibibyte / 4,
    storedBytes: 64 * 1024 ** 2,
    ...change
  }
}

export function backupReport(
  id: string,
  record: BackupRecord,
  change: Partial<BackupReport> = {}
): BackupReport {
  const { vm, uuid, target, at } = record
  return {
    id,
    vm,
    uuid,
    target,
    origin: 'schedule',
    startedAt: at,
    finishedAt: at + 1_500,
    record,
    ...change
  }
}

export const key1 = 'bbbbbbbb-1111-4111-8111-111111111111'
export const key2 = 'bbbbbbbb-2222-4222-8222-222222222222'

/** A key with a wrapping that has the right form and opens with nothing. */
export function escrowedKey(change: Partial<EscrowedKey> = {}): EscrowedKey {
  const header = { alg: 'ECDH-ES+A256KW', kid: 'fleet' }
  return {
    id: key1,
    vm: 'web-1',
    uuid: uuid1,
    volume: 'web-1-root.qcow2',
    createdAt: 5_000,
    revision: 1,
    recovery: {
      protected: 'eyJ9',
      iv: 'aXY',
      ciphertext: 'cmVjb3ZlcnktY2lwaGVydGV4dA',
      tag: 'dGFn',
      recipients: [{ encrypted_key: 'a2V5', header }]
    },
    ...change
  }
}
