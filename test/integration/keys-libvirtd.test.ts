// A libvirtd that is killed while an encrypted machine runs: it forgets the key, the machine runs on, and the agent tells it again.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { LibvirtHypervisor } from '../../src/agent/host/libvirt-hypervisor.ts'
import { formatLuks, newPassphrase } from '../../src/agent/host/luks-format.ts'
import { KeySupply } from '../../src/agent/keys/key-supply.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { definitionOf, wait } from '../contract/hypervisor.contract.ts'
import { connected } from '../contract/libvirt-fixture.ts'
import { PrivateLibvirtd } from './libvirt-connection/private-libvirtd.ts'

const skip = existsSync('/usr/sbin/libvirtd') && process.getuid?.() === 0 ? false : 'takes libvirtd and root'
const run = promisify(execFile)
const network = { name: 'hl-t-forgets', bridge: 'hltforgets', subnet: '10.252.8.0/24' }
const uid = 1_949_100_000
const capacityBytes = 8 * 1024 ** 2

describe('a libvirtd that is killed', { skip, timeout: 600_000 }, () => {
  it('is told the keys again when it is back, of machines that run and of those that are off', async () => {
    await using daemon = await PrivateLibvirtd.startSystem()
    const uri = `qemu+unix:///system?socket=${daemon.socket}`
    const virsh = async (...words: string[]) => (await run('virsh', ['-q', '-c', uri, ...words])).stdout
    const directory = await mkdtemp('/var/tmp/hl-t-forgets-')
    await chmod(directory, 0o711)
    const hypervisor = new LibvirtHypervisor({
      uri: 'qemu:///system',
      socket: daemon.socket,
      accelerator: 'tcg',
      pool: { name: network.name, path: join(directory, 'pool') },
      trialUid: uid,
      runtimeDirectory: join(directory, 'run'),
      clock: systemClock,
      log: silentLogger
    })
    const [id, passphrase] = [randomUUID(), newPassphrase()]
    const source = { passphrase: () => Promise.resolve(passphrase) }
    const supply = new KeySupply({ hypervisor, source, clock: systemClock, log: silentLogger })
    try {
      await mkdir(join(directory, 'run', 'console'), { recursive: true })
      await connected(hypervisor)
      supply.begin()
      const plain = definitionOf({ prefix: network.name, network, uid }, 'vm')
      // This libvirtd has no control groups, which a limit of the processor takes.
      const { cpuLimitPercent: _unlimited, ...specification } = plain.specification
      const placement = { ...plain.placement, rootStandsAlone: true, rootKey: id } as const
      const { name } = specification
      const path = join(directory, 'disk.qcow2')
      await formatLuks({ path, passphrase, sizeBytes: capacityBytes }, { ...wait(), clock: systemClock })
      const disk = { name: placement.rootVolume, sizeBytes: (await stat(path)).size, capacityBytes }
      await hypervisor.storeDisk(disk, createReadStream(path), wait())
      await hypervisor.ensureNetwork(network, wait())
      await hypervisor.define({ ...plain, specification, placement }, wait())
      await hypervisor.start(name, wait())
      const before = (await hypervisor.findVm(name, wait()))?.run
      assert.ok((await virsh('secret-list')).includes(id))
      await daemon.kill()
      const back = connected(hypervisor)
      daemon.restart()
      await back
      const { signal } = wait()
      while (!(await virsh('secret-list')).includes(id)) signal.throwIfAborted()
      assert.equal((await hypervisor.findVm(name, wait()))?.run, before)
      await hypervisor.cutPower(name, wait())
      await hypervisor.ensureNetwork(network, wait())
      await hypervisor.start(name, wait())
      assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
    } finally {
      await hypervisor.cutPower(`${network.name}-vm`, wait()).catch(() => undefined)
      await supply[Symbol.asyncDispose]()
      await hypervisor.close()
      // Ends its dnsmasq, which would outlive the daemon.
      await virsh('net-destroy', network.name).catch(() => undefined)
      await rm(directory, { recursive: true, force: true })
    }
  })
})
