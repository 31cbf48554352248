// A small machine on libvirt whose disks tests fill and back up: no guest runs in it, so it starts in an instant.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { BackupJob, BackupRequest } from '../../src/agent/host/backup-port.ts'
import type { VmDefinition } from '../../src/agent/host/hypervisor.ts'
import { LibvirtHypervisor, type LibvirtHypervisorOptions } from '../../src/agent/host/libvirt-hypervisor.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { definitionOf, makeDisks, storeBase, wait } from '../contract/hypervisor.contract.ts'
import { connected, emptySeed, type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'

const run = promisify(execFile)

export interface BackupBench {
  readonly fixture: LibvirtFixture
  /** With a root and a data disk and a seed, defined and off. */
  addVm(suffix: string, options?: { dataDiskBytes?: number }): Promise<VmDefinition>
  begin(vm: VmDefinition, request: Partial<BackupRequest> & { checkpoint: string }): Promise<BackupJob>
  /** Another agent's view of the same host, such as the one that follows a killed one. */
  another(options?: Partial<LibvirtHypervisorOptions>): Promise<LibvirtHypervisor>
  diskPath(vm: VmDefinition, role: 'root' | 'data'): string
  bitmaps(path: string): Promise<string[]>
  scratch(): Promise<string[]>
  dispose(): Promise<void>
}

export async function openBackupBench(): Promise<BackupBench> {
  const fixture = await openLibvirtFixture()
  const { hypervisor, network, pool, directory } = fixture
  const others: LibvirtHypervisor[] = []
  await hypervisor.ensureNetwork(network, wait())
  await storeBase(hypervisor)
  let snapshots = 0
  return {
    fixture,
    addVm: async (suffix, { dataDiskBytes } = {}) => {
      const seedPath = await emptySeed(directory, suffix)
      const definition = definitionOf(fixture, suffix, {
        data: true,
        seedPath,
        ...(dataDiskBytes && { dataDiskBytes })
      })
      await makeDisks(hypervisor, definition)
      await hypervisor.define(definition, wait())
      return definition
    },
    begin: (vm, request) =>
      hypervisor.beginBackup(
        vm.specification.name,
        { snapshot: `${fixture.prefix}-${++snapshots}`, roles: ['root', 'data'], since: null, ...request },
        wait()
      ),
    another: async (options) => {
      const other = new LibvirtHypervisor({
        uri: 'qemu:///system',
        accelerator: 'tcg',
        pool,
        trialUid: fixture.uid,
        runtimeDirectory: join(directory, 'run'),
        scratch: { reserveBytes: 64 * 1024 ** 2 },
        clock: systemClock,
        log: silentLogger,
        ...options
      })
      others.push(other)
      await connected(other)
      return other
    },
    diskPath: ({ placement }, role) =>
      join(pool.path, (role === 'root' ? placement.rootVolume : placement.dataVolume) ?? ''),
    bitmaps: async (path) => {
      const { stdout } = await run('qemu-img', ['info', '-U', '--output=json', path])
      const details = JSON.parse(stdout)['format-specific'].data
      return (details.bitmaps ?? []).map(({ name }: { name: string }) => name).sort()
    },
    scratch: async () =>
      (await hypervisor.listVolumes(wait())).map(({ name }) => name).filter((name) => /scratch/.test(name)),
    dispose: async () => {
      await Promise.all(others.map((other) => other.close()))
      await fixture.dispose()
    }
  }
}

export async function pidOf(vm: VmDefinition): Promise<number> {
  const pid = Number(await readFile(`/run/libvirt/qemu/${vm.specification.name}.pid`, 'utf8'))
  assert.ok(pid > 1)
  return pid
}

export async function aborted(signal: AbortSignal): Promise<{ code?: string }> {
  const over = AbortSignal.any([signal, wait().signal])
  if (!over.aborted) await new Promise((resolve) => over.addEventListener('abort', resolve, { once: true }))
  assert.ok(signal.aborted, 'the job goes on')
  return signal.reason
}
