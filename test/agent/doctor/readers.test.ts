// What the doctor reads of files, of the kernel and of libvirt's configuration, from trees of files that stand for a host.

import assert from 'node:assert/strict'
import { chmod, mkdir, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { isEncrypted } from '../../../src/agent/doctor/readers/block-devices.ts'
import { filesIn, place, placeOrAbove, reading } from '../../../src/agent/doctor/readers/files.ts'
import * as kernel from '../../../src/agent/doctor/readers/kernel.ts'
import * as libvirtFiles from '../../../src/agent/doctor/readers/libvirt-files.ts'
import { hostTree } from './host-tree.ts'

/** Of st_dev: major 253, minor 3. */
const mapped = (253 << 8) | 3

describe('readers of the doctor', () => {
  const tree = hostTree()
  const { put } = tree

  it('settings of libvirt: what is set, over several lines, and nothing that is commented out', () => {
    const text =
      '#user = "root"\nmax_core = "unlimited"\n  namespaces = [ "mount",\n  "pid" ]\nseccomp_sandbox=0\n'
    assert.deepEqual(libvirtFiles.parseSettings(text), {
      max_core: '"unlimited"',
      namespaces: '[ "mount", "pid" ]',
      seccomp_sandbox: '0'
    })
  })

  it('a device is encrypted when all that it lies on is', async () => {
    const sys = join(tree.root, 'sys')
    const device = 'sys/dev/block/253:3'
    await put(`${device}/dm/uuid`, 'LVM-abc')
    await mkdir(join(tree.root, `${device}/slaves`))
    await put('sys/devices/dm-0/dm/uuid', 'CRYPT-LUKS2-abc')
    await symlink(join(tree.root, 'sys/devices/dm-0'), join(tree.root, `${device}/slaves/dm-0`))
    assert.equal(await isEncrypted(mapped, sys), true)
    await mkdir(join(tree.root, 'sys/devices/sdb'))
    await symlink(join(tree.root, 'sys/devices/sdb'), join(tree.root, `${device}/slaves/sdb`))
    assert.equal(await isEncrypted(mapped, sys), false)
    assert.equal(await isEncrypted(27, sys), undefined, 'no block device')
  })

  it('swap: a file and a device that are not encrypted are open, zram is not', async () => {
    const file = await put('swapfile')
    const lines = ['Filename Type Size Used Priority', `${file} file 1 0 -2`, '/dev/zram0 partition 1 0 100']
    await put('proc/swaps', `${lines.join('\n')}\n`)
    assert.deepEqual(await kernel.swapAreas(join(tree.root, 'proc')), [
      { name: file, safe: false },
      { name: '/dev/zram0', safe: true }
    ])
    await put('proc/swaps', 'Filename\t\t\t\tType\n')
    assert.deepEqual(await kernel.swapAreas(join(tree.root, 'proc')), [])
  })

  it('hibernation is possible only where the kernel knows the device', async () => {
    await put('sys/power/state', 'freeze mem disk\n')
    await put('sys/power/resume', '0:0\n')
    assert.equal(await kernel.canHibernate(join(tree.root, 'sys')), false)
    await put('sys/power/resume', '8:2\n')
    assert.equal(await kernel.canHibernate(join(tree.root, 'sys')), true)
  })

  it('guests at shutdown: what is configured wins over the default of the script', async () => {
    await put('etc/systemd/system/multi-user.target.wants/libvirt-guests.service')
    await put('usr/lib/libvirt/libvirt-guests.sh', 'ON_SHUTDOWN="shutdown"\n')
    assert.deepEqual(await libvirtFiles.guestsService(tree.root), { enabled: true, onShutdown: 'shutdown' })
    await put('etc/default/libvirt-guests', '#ON_SHUTDOWN=shutdown\nON_SHUTDOWN=suspend\n')
    assert.deepEqual(await libvirtFiles.guestsService(tree.root), { enabled: true, onShutdown: 'suspend' })
  })

  it('control groups of both versions by the same names', async () => {
    await put('sys/fs/cgroup/cgroup.controllers', 'cpuset cpu io memory pids\n')
    assert.ok((await kernel.cgroupControllers(join(tree.root, 'sys'))).includes('io'))
    await rm(join(tree.root, 'sys/fs'), { recursive: true })
    await put('sys/fs/cgroup/cpu,cpuacct/tasks')
    await put('sys/fs/cgroup/blkio/tasks')
    const found = await kernel.cgroupControllers(join(tree.root, 'sys'))
    assert.ok(found.includes('cpu') && found.includes('io'))
  })

  it('bridges of ours with their IPv6, and no others', async () => {
    for (const name of ['hl-starter', 'virbr0']) await put(`sys/class/net/${name}/ifindex`, '3')
    await put('proc/sys/net/ipv6/conf/hl-starter/disable_ipv6', '0\n')
    await put('proc/net/if_inet6', 'fe800000000000005054000000000001 03 40 20 80 hl-starter\n')
    assert.deepEqual(await kernel.bridgesOf(['hl-'], tree.root), [
      { name: 'hl-starter', ipv6Disabled: false, ipv6Addresses: ['fe800000000000005054000000000001'] }
    ])
  })

  it('accounts in the range of the VMs', async () => {
    await put('etc/passwd', 'root:x:0:0::/:/bin/sh\nalice:x:1900000005:1::/:/bin/sh\n')
    const etc = join(tree.root, 'etc')
    assert.deepEqual(await kernel.accountsBetween(1_900_000_000, 1_900_000_009, etc), ['alice'])
  })

  it('credentials that the unit and its drop-ins load', async () => {
    await put(
      'etc/systemd/system/hostlet.service.d/keys.conf',
      '[Service]\nLoadCredentialEncrypted=hostlet-host-key:/x\n#LoadCredentialEncrypted=other:/y\n'
    )
    assert.deepEqual(await libvirtFiles.unitCredentials(join(tree.root, 'etc')), ['hostlet-host-key'])
  })

  it('saved machines and dumps, wherever they lie', async () => {
    const saved = await put('qemu/save/web-1.save')
    const dumped = await put('qemu/dump/web-1-core')
    const found = await libvirtFiles.memoryImages(join(tree.root, 'qemu'))
    assert.deepEqual(found.toSorted(), [saved, dumped].toSorted())
  })

  it('places: mode, owner and whether it is memory; of what is not there yet, the directory above', async () => {
    const file = await put('keys/a.json')
    await chmod(file, 0o640)
    assert.deepEqual(await filesIn(join(tree.root, 'keys')), [{ path: file, mode: 0o100640 }])
    assert.equal(
      (await placeOrAbove(join(tree.root, 'keys', 'later', 'still'))).path,
      join(tree.root, 'keys')
    )
    assert.equal((await place('/dev/shm')).inMemory, true)
    assert.deepEqual(await reading(() => place(join(tree.root, 'none'))), {
      unreadable: `${join(tree.root, 'none')}: does not exist`
    })
  })
})
