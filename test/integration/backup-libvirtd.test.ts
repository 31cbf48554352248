// A backup whose libvirtd is killed: told at once, and cleared by whoever comes when it is back, while the machine runs on.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { LibvirtHypervisor } from '../../src/agent/host/libvirt-hypervisor.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { definitionOf, makeDisks, rejectsWith, storeBase, wait } from '../contract/hypervisor.contract.ts'
import { connected } from '../contract/libvirt-fixture.ts'
import { aborted } from './backup-bench.ts'
import { PrivateLibvirtd } from './libvirt-connection/private-libvirtd.ts'

const skip = existsSync('/usr/sbin/libvirtd') && process.getuid?.() === 0 ? false : 'takes libvirtd and root'
const run = promisify(execFile)
const network = { name: 'hl-t-killed', bridge: 'hltkilled', subnet: '10.252.7.0/24' }
const uid = 1_949_000_000

describe('a backup whose libvirtd is killed', { skip, timeout: 90_000 }, () => {
  it('is lost at once, and nothing of it is left when libvirtd is back, but the machine', async () => {
    await using daemon = await PrivateLibvirtd.startSystem()
    const directory = await mkdtemp('/var/tmp/hl-t-killed-')
    await chmod(directory, 0o711)
    const hypervisor = openHypervisor(daemon, directory)
    try {
      await mkdir(join(directory, 'run', 'console'), { recursive: true })
      await connected(hypervisor)
      await hypervisor.ensureNetwork(network, wait())
      await storeBase(hypervisor)
      const whole = definitionOf({ prefix: 'hl-t-killed', network, uid }, 'vm', { data: true })
      // This libvirtd has no control groups, which a limit of the processor takes.
      const { cpuLimitPercent: _unlimited, ...specification } = whole.specification
      const vm = { ...whole, specification }
      const { name } = specification
      await makeDisks(hypervisor, vm)
      await hypervisor.define(vm, wait())
      await hypervisor.start(name, wait())
      const before = (await hypervisor.findVm(name, wait()))?.run
      const request = { roles: ['root', 'data'], since: null } as const
      const first = await hypervisor.beginBackup(
        name,
        { ...request, snapshot: 's1', checkpoint: 'c1' },
        wait()
      )
      await first.end({ ...wait(), keepCheckpoint: true })
      const job = await hypervisor.beginBackup(
        name,
        { ...request, since: 'c1', snapshot: 's2', checkpoint: 'c2' },
        wait()
      )
      await daemon.kill()
      assert.equal((await aborted(job.signal)).code, 'E_UNAVAILABLE')
      await rejectsWith('E_UNAVAILABLE', job.end({ ...wait(), keepCheckpoint: false }))
      const back = connected(hypervisor)
      daemon.restart()
      await back
      await hypervisor.clearBackup(name, ['c1'], wait())
      assert.deepEqual(await hypervisor.listCheckpoints(name, wait()), ['c1'])
      const volumes = (await hypervisor.listVolumes(wait())).map((volume) => volume.name)
      assert.deepEqual(
        volumes.filter((volume) => volume.includes('scratch')),
        []
      )
      const after = await hypervisor.findVm(name, wait())
      assert.deepEqual([after?.state, after?.run], ['running', before])
      const next = await hypervisor.beginBackup(
        name,
        { ...request, since: 'c1', snapshot: 's3', checkpoint: 'c3' },
        wait()
      )
      await next.end({ ...wait(), keepCheckpoint: true })
    } finally {
      await hypervisor.cutPower('hl-t-killed-vm', wait()).catch(() => undefined)
      await hypervisor.close()
      // Ends its dnsmasq, which would outlive the daemon.
      const uri = `qemu+unix:///system?socket=${daemon.socket}`
      await run('virsh', ['-q', '-c', uri, 'net-destroy', network.name]).catch(() => undefined)
      await rm(directory, { recursive: true, force: true })
    }
  })
})

function openHypervisor(daemon: PrivateLibvirtd, directory: string): LibvirtHypervisor {
  return new LibvirtHypervisor({
    uri: 'qemu:///system',
    socket: daemon.socket,
    accelerator: 'tcg',
    pool: { name: 'hl-t-killed', path: join(directory, 'pool') },
    trialUid: uid,
    runtimeDirectory: join(directory, 'run'),
    scratch: { reserveBytes: 64 * 1024 ** 2 },
    clock: systemClock,
    log: silentLogger
  })
}
