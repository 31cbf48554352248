// Memory out of the host's huge pages and a limit of processes, on a libvirtd whose configuration has them: what its QEMU then has.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import type { VmDefinition } from '../../src/agent/host/hypervisor.ts'
import { LibvirtHypervisor } from '../../src/agent/host/libvirt-hypervisor.ts'
import { thisMachine } from '../../src/agent/resources/host-machine.ts'
import { processLimitsOf } from '../../src/agent/resources/process-limits.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { definitionOf, makeDisks, removeVm, storeBase, wait } from '../contract/hypervisor.contract.ts'
import { connected } from '../contract/libvirt-fixture.ts'
import { PrivateLibvirtd } from './libvirt-connection/private-libvirtd.ts'

const run = promisify(execFile)
const pagesPath = '/proc/sys/vm/nr_hugepages'
const mebibyte = 1024 ** 2
const vmBytes = 64 * mebibyte
const processesMax = 77

const skip = existsSync('/usr/sbin/libvirtd') && process.getuid?.() === 0 ? false : 'takes libvirtd and root'

describe('a VM with huge pages', { skip, timeout: 300_000 }, () => {
  it('has its memory out of them, within a limit of processes of its own user, without control groups', async (t) => {
    await using pages = await HugePages.reserve(vmBytes)
    if (pages === undefined) return t.skip('this machine has no huge pages of its usual size to set aside')
    const settings = `hugetlbfs_mount = "${pages.directory}"\nmax_processes = ${processesMax}\n`
    await using daemon = await PrivateLibvirtd.startSystem({ qemuConfig: settings })
    const prefix = `hl-t-${randomBytes(3).toString('hex')}`
    await mkdir(join(pages.directory, '..', 'run', 'console'), { recursive: true })
    const hypervisor = new LibvirtHypervisor({
      uri: 'qemu:///system',
      socket: daemon.socket,
      accelerator: 'tcg',
      pool: { name: prefix, path: join(pages.directory, '..', 'pool') },
      trialUid: 1_950_000_001,
      runtimeDirectory: join(pages.directory, '..', 'run'),
      clock: systemClock,
      log: silentLogger
    })
    await connected(hypervisor)
    const network = { name: prefix, bridge: `hlt${prefix.slice(5)}`, subnet: '10.249.7.0/24' }
    const plain = definitionOf({ prefix, network, uid: 1_950_000_001 }, 'huge')
    const { cpuLimitPercent: _none, ...specification } = plain.specification
    const definition: VmDefinition = {
      ...plain,
      specification: { ...specification, memoryBytes: vmBytes },
      placement: { ...plain.placement, resources: { hugepages: true } }
    }
    try {
      await hypervisor.ensureNetwork(network, wait())
      await storeBase(hypervisor)
      await makeDisks(hypervisor, definition)
      await hypervisor.define(definition, wait())
      const before = await thisMachine.hugePages()
      await hypervisor.start(definition.specification.name, wait())
      const after = await thisMachine.hugePages()
      assert.equal(before.freeBytes - after.freeBytes, vmBytes)
      const pid = await qemuOf(definition.specification.uuid)
      const limits = await processLimitsOf(pid)
      assert.equal(limits.processesMax, processesMax)
      assert.equal(limits.seccomp, 'filter')
    } finally {
      await removeVm(hypervisor, definition)
      await hypervisor.close()
    }
  })
})

/** Pages that this machine did not have set aside, and a file system of them. */
class HugePages implements AsyncDisposable {
  readonly directory: string
  readonly #parent: string
  readonly #before: number

  private constructor(parts: { parent: string; directory: string; before: number }) {
    this.#parent = parts.parent
    this.directory = parts.directory
    this.#before = parts.before
  }

  /** Undefined where the kernel does not have so many. */
  static async reserve(bytes: number): Promise<HugePages | undefined> {
    if (!existsSync(pagesPath)) return undefined
    const before = Number(await readFile(pagesPath, 'utf8'))
    const { freeBytes, totalBytes } = await thisMachine.hugePages()
    const pageBytes =
      Number(/^Hugepagesize:\s+(\d+)/m.exec(await readFile('/proc/meminfo', 'utf8'))?.[1]) * 1024
    await writeFile(pagesPath, String(before + bytes / pageBytes)).catch(() => undefined)
    const reserved = await thisMachine.hugePages()
    const parent = await mkdtemp('/var/tmp/hl-t-huge-')
    await chmod(parent, 0o711)
    const directory = join(parent, 'pages')
    await mkdir(directory)
    const pages = new HugePages({ parent, directory, before })
    const got = reserved.totalBytes - totalBytes >= bytes && reserved.freeBytes - freeBytes >= bytes
    const mounted =
      got && (await run('mount', ['-t', 'hugetlbfs', 'hugetlbfs', directory]).then(isDone, isNot))
    if (mounted) return pages
    await pages[Symbol.asyncDispose]()
    return undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run('umount', [this.directory]).catch(() => undefined)
    await writeFile(pagesPath, String(this.#before)).catch(() => undefined)
    await rm(this.#parent, { recursive: true, force: true })
  }
}

async function qemuOf(uuid: string): Promise<number> {
  const { stdout } = await run('pgrep', ['-f', `^/usr/bin/qemu-system.* -uuid ${uuid}`])
  return Number(stdout.trim().split('\n')[0])
}

const isDone = () => true
const isNot = () => false
