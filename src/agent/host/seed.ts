// NoCloud seeds: what cloud-init reads at a VM's first boot, as a CD image on memory-backed storage.

import { chmod, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { HostletError } from '../../errors.ts'
import { runProcess } from '../../lib/run-process.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import { hardenedVendorData, isHardened } from '../guest/hardened.ts'
import type { Placement, Wait } from './hypervisor.ts'
import { isMemoryBacked } from './memory-backed.ts'

/** cloud-init looks for this label (NoCloud). */
const label = 'CIDATA'
const processMs = 30_000
const workPrefix = 'work-'
const suffix = '.iso'
/** Whichever is installed; the first starts ten times as fast. Both take the same arguments. */
const programs: readonly (readonly [string, ...string[]])[] = [
  ['genisoimage'],
  ['xorriso', '-as', 'genisoimage']
]

/** What a seed says besides what everybody may read of its VM. */
export interface SeedContent {
  /** In place of what hostlet would write from the keys. */
  readonly userData?: string | undefined
  /** Whether the guest can fetch packages. */
  readonly packages: boolean
}

export class Seeds {
  readonly #directory: string
  #inMemory: boolean | undefined

  /** QEMU's users pass through the directory, which must lie on memory-backed storage: seeds may hold secrets. */
  constructor({ directory }: { directory: string }) {
    this.#directory = directory
  }

  /** Whether seeds lie in memory, as they should; undefined before `prepare`. */
  get inMemory(): boolean | undefined {
    return this.#inMemory
  }

  /** Makes the directory, and removes what a killed agent left half-made in it. */
  async prepare(): Promise<void> {
    await this.#makeDirectory()
    this.#inMemory = await isMemoryBacked(this.#directory)
    for (const name of await readdir(this.#directory)) {
      if (name.startsWith(workPrefix)) await rm(join(this.#directory, name), { recursive: true, force: true })
    }
  }

  /** By UUID, which no guest and no person chooses the characters of. */
  path(uuid: string): string {
    return join(this.#directory, `${uuid}${suffix}`)
  }

  /** Writes the seed; a second time replaces it. Only its owner may read it until libvirt hands it to the VM's user. */
  async write(vm: VmSpecification, placement: Placement, content: SeedContent, wait: Wait): Promise<string> {
    await this.#makeDirectory()
    const work = await mkdtemp(join(this.#directory, workPrefix))
    try {
      const files = Object.entries(seedFiles(vm, placement, content))
      for (const [name, text] of files) await writeFile(join(work, name), text, { mode: 0o600 })
      const image = join(work, 'seed.iso')
      await makeIso({ work, image, files: files.map(([name]) => join(work, name)) }, wait)
      await chmod(image, 0o600)
      await rename(image, this.path(vm.uuid))
      return this.path(vm.uuid)
    } finally {
      await rm(work, { recursive: true, force: true })
    }
  }

  async has(uuid: string): Promise<boolean> {
    return (await this.list()).includes(uuid)
  }

  /** UUIDs of the VMs that have a seed here. */
  async list(): Promise<string[]> {
    const names = await readdir(this.#directory)
    return names.filter((name) => name.endsWith(suffix)).map((name) => name.slice(0, -suffix.length))
  }

  /** No effect when there is none. */
  async remove(uuid: string): Promise<void> {
    await rm(this.path(uuid), { force: true })
  }

  async #makeDirectory(): Promise<void> {
    await mkdir(this.#directory, { recursive: true })
    // Passed through, not listed; against whatever mask the agent runs with.
    await chmod(this.#directory, 0o711)
  }
}

/** The files of a seed, by name. YAML comes from a library: no string of the command can end a value early. */
export function seedFiles(
  vm: VmSpecification,
  placement: Placement,
  content: SeedContent
): Record<string, string> {
  const hostname = vm.seed?.hostname ?? vm.name
  const keys = vm.seed?.sshAuthorizedKeys ?? []
  const userData = { hostname, ...(keys.length > 0 && { ssh_authorized_keys: keys }) }
  return {
    'meta-data': yaml({ 'instance-id': vm.uuid, 'local-hostname': hostname }),
    'user-data': content.userData ?? `#cloud-config\n${yaml(userData)}`,
    ...(isHardened(vm.seed ?? {}) && { 'vendor-data': hardenedVendorData(vm, content) }),
    'network-config': yaml({
      version: 2,
      ethernets: { main: { match: { macaddress: placement.macAddress }, dhcp4: true } }
    })
  }
}

function yaml(value: unknown): string {
  return stringify(value, { defaultStringType: 'QUOTE_DOUBLE', defaultKeyType: 'PLAIN', lineWidth: 0 })
}

/** In a directory of memory, which is the program's own place for what it writes on the way, too. */
async function makeIso(
  { work, image, files }: { work: string; image: string; files: readonly string[] },
  wait: Wait
): Promise<void> {
  const args = ['-quiet', '-output', image, '-volid', label, '-joliet', '-rock', ...files]
  const environment = { PATH: process.env.PATH ?? '', LC_ALL: 'C.UTF-8', TMPDIR: work, HOME: work }
  const options = { ...wait, deadlineMs: processMs, cwd: work, environment }
  for (const [program, ...first] of programs) {
    const result = await runProcess(program, [...first, ...args], options).catch((error) => {
      if (error instanceof HostletError && error.code === 'E_UNAVAILABLE') return undefined
      throw error
    })
    if (result === undefined) continue
    if (result.exitCode === 0) return
    if (/No space left/.test(result.stderr))
      throw new HostletError('E_CAPACITY', `${work} has no room for a seed: free some of its file system`)
    throw new HostletError(
      'E_INTERNAL',
      `${program} could not make the seed: ${result.stderr.trim().slice(-512)}`
    )
  }
  throw new HostletError(
    'E_UNSUPPORTED',
    'neither genisoimage nor xorriso is installed on this host, and one is needed for seeds. Install one.'
  )
}
