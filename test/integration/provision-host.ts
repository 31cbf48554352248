// A host on this machine's libvirt for tests of verbs: pool, network, users, names and directories of its own.

import { existsSync, readFileSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { BackupParts } from '../../src/agent/backups/backups.ts'
import { networkDefaults } from '../../src/agent/firewall/create.ts'
import { BootRecord } from '../../src/agent/host/boot-record.ts'
import { createHost, type Host, type HostConfig } from '../../src/agent/host/host.ts'
import type { Hypervisor } from '../../src/agent/host/hypervisor.ts'
import { LibvirtHypervisor } from '../../src/agent/host/libvirt-hypervisor.ts'
import { profileOf } from '../../src/agent/profiles.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { VmSpecification } from '../../src/protocol/vm.ts'
import { cannotRun, type LibvirtFixture } from '../contract/libvirt-fixture.ts'

const root = join(import.meta.dirname, '..', '..')
export const guestPath = join(root, '.cache', 'guest', 'hostlet-guest.qcow2')

/** What another process needs to be an agent on the same host. */
export interface ProvisionSetup {
  readonly config: HostConfig
  readonly pool: { readonly name: string; readonly path: string }
  readonly uid: number
}

export async function cannotProvision(): Promise<string | false> {
  if (!existsSync(guestPath)) return 'the guest image is not built: run "sh scripts/setup.sh"'
  return await cannotRun()
}

export function setupOf({ directory, network, pool, uid }: LibvirtFixture): ProvisionSetup {
  const { name, bridge, subnet } = network
  const config = {
    stateDirectory: join(directory, 'state'),
    runtimeDirectory: join(directory, 'run'),
    profiles: { starter: profileOf({ network: name, bridge, subnet, encryption: false }) },
    // Named as the network, which is the prefix of all that is made here.
    network: { ...networkDefaults, table: name },
    vmUids: { first: uid, count: 64 },
    images: { allowFileUrls: [dirname(guestPath)], cacheBytesMax: 1024 ** 3 },
    stop: { graceMs: 30_000 },
    readyTimeoutMs: 120_000
  }
  return { config, pool, uid }
}

export function hypervisorOf(
  { config, pool, uid }: ProvisionSetup,
  known: readonly string[] = []
): LibvirtHypervisor {
  return new LibvirtHypervisor({
    uri: 'qemu:///system',
    accelerator: 'tcg',
    pool,
    trialUid: uid,
    runtimeDirectory: config.runtimeDirectory,
    known: () => known,
    clock: systemClock,
    log: silentLogger
  })
}

export async function hostOf(
  hypervisor: Hypervisor,
  { config }: ProvisionSetup,
  backups?: BackupParts
): Promise<Host> {
  const bootRecord = new BootRecord({ directory: config.runtimeDirectory })
  const common = { hostId: 'host-1', agentVersion: '0.1.0', clock: systemClock, log: silentLogger }
  const host = createHost({ ...common, config, hypervisor, bootRecord, ...(backups && { backups }) })
  await host.prepare()
  return host
}

/** The small guest of the tests: takes its address, answers HTTP on port 80, obeys its power button. */
export function guestSpecification(
  changes: Partial<VmSpecification> & { name: string; uuid: string }
): VmSpecification {
  return {
    profile: 'starter',
    image: {
      url: `file://${guestPath}`,
      sha256: readFileSync(`${guestPath}.sha256`, 'utf8').trim(),
      format: 'qcow2'
    },
    cpus: 1,
    memoryBytes: 192 * 1024 ** 2,
    rootDiskBytes: 128 * 1024 ** 2,
    ready: { http: { port: 80, path: '/' }, timeoutMs: 120_000 },
    ...changes
  }
}

/** What is on the host besides base images: empty when VMs left nothing. */
export async function leftoversOf(host: Host, setup: ProvisionSetup): Promise<string[]> {
  const wait = { signal: AbortSignal.timeout(30_000) }
  const vms = (await host.hypervisor.listVms(wait)).map((vm) => vm.specification.name)
  const network = setup.config.profiles.starter?.network ?? ''
  const volumes = (await host.hypervisor.listVolumes(wait)).map(({ name }) => name)
  const reservations = await host.hypervisor.listReservations(network, wait)
  const { stateDirectory, runtimeDirectory } = setup.config
  return [
    ...vms,
    ...volumes.filter((name) => !name.startsWith('base-')),
    ...reservations.map(({ address }) => address),
    ...(await readdir(join(runtimeDirectory, 'seeds'))),
    ...(await readdir(join(stateDirectory, 'images'))).filter((name) => name.endsWith('.part'))
  ]
}

export async function ownerOf(path: string): Promise<{ uid: number; mode: number }> {
  const { uid, mode } = await stat(path)
  return { uid, mode: mode & 0o777 }
}

/** What the guest says of itself. Waits until it answers. */
export async function askGuest(address: string, timeoutMs = 120_000): Promise<Record<string, unknown>> {
  const signal = AbortSignal.timeout(timeoutMs)
  for (;;) {
    try {
      const answer = await fetch(`http://${address}/`, {
        signal: AbortSignal.any([signal, AbortSignal.timeout(5_000)])
      })
      return (await answer.json()) as Record<string, unknown>
    } catch (error) {
      if (signal.aborted) throw error
      await systemClock.sleep(300, signal)
    }
  }
}

/** The same, with disks that are encrypted. */
export function sealedSetupOf(fixture: LibvirtFixture, changes: Partial<HostConfig> = {}): ProvisionSetup {
  const setup = setupOf(fixture)
  const { name: network, bridge, subnet } = fixture.network
  const profiles = { starter: profileOf({ network, bridge, subnet, encryption: true }) }
  return { ...setup, config: { ...setup.config, profiles, ...changes } }
}
