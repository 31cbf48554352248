// Backups of a VM whose disks are encrypted: what it overwrites meanwhile is nowhere in clear, and what comes back is what its guest saw.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { chmod, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import type { BackupRecord } from '../../src/protocol/backup.ts'
import { hostlet } from '../cli/program.ts'
import { wait } from '../contract/hypervisor.contract.ts'
import { BackupAgent, target } from './backup-agent.ts'
import { askGuest, cannotProvision } from './provision-host.ts'

const run = promisify(execFile)
const mebibyte = 1024 ** 2
const disks = {
  root: { device: 'virtio-disk0', at: 120 * mebibyte },
  data: { device: 'virtio-disk1', at: 14 * mebibyte }
}
type Role = keyof typeof disks
const roles = Object.keys(disks) as Role[]

describe('backups of encrypted disks', { skip: await cannotProvision(), timeout: 600_000 }, () => {
  let agent: BackupAgent
  let guest: { vm: string; uuid: string; address: string }
  /** Of the test itself: no place where the agent, libvirt or QEMU leave anything. */
  let apart: string
  const secret = randomUUID()
  const taken: BackupRecord[] = []

  before(async () => {
    apart = await mkdtemp('/var/tmp/hl-t-apart-')
    await chmod(apart, 0o711)
    agent = await BackupAgent.open()
    await agent.spawn()
    guest = await agent.addGuest('sealed', { dataDiskBytes: 16 * mebibyte })
    await askGuest(guest.address)
    await agent.do('vm.stop', { vm: guest.vm, force: true }, guest)
    await seal()
    await agent.do('vm.start', { vm: guest.vm }, guest)
    await askGuest(guest.address)
  })
  after(async () => {
    await agent?.[Symbol.asyncDispose]()
    await agent?.fixture.virsh('secret-undefine', secret).catch(() => undefined)
    await rm(apart, { recursive: true, force: true })
  })

  for (const kind of ['full', 'incremental'] as const)
    it(`${kind}: hold what the guest saw, and nothing of it is found in clear`, async () => {
      const canary = randomBytes(64)
      await write(canary)
      await agent.fixture.virsh('suspend', guest.vm)
      await reference(kind)
      const command = await agent.sign('vm.backup', { vm: guest.vm, target })
      await agent.holdIn(command)
      await agent.fixture.virsh('resume', guest.vm)
      // The only copies that are left are in the scratch files of the job.
      await write(randomBytes(64))
      assert.deepEqual(await holders(canary), [])
      agent.goOn()
      const { outcome, value, error } = await agent.awaitResult(command)
      assert.equal(outcome, 'done', JSON.stringify(error))
      const { record } = value as unknown as { record: BackupRecord }
      assert.deepEqual([record.kind, record.reason], [kind, undefined])
      taken.push(record)
      assert.deepEqual(await holders(canary), [])
      const secrets = await agent.fixture.virsh('secret-list')
      assert.doesNotMatch(secrets, new RegExp(`hostlet-scratch/${guest.uuid}`))
      for (const role of roles) assert.ok(await same(record.snapshot, role, { kind, canary }), role)
    })

  it('would be found by this search', async () => {
    const canary = randomBytes(64)
    const path = join(agent.fixture.pool.path, 'clear')
    await writeFile(path, Buffer.concat([randomBytes(5_000), canary]))
    assert.deepEqual(await holders(canary), [path])
    await rm(path)
  })

  /** Through the device, as the guest would, where its file systems have nothing yet. */
  async function write(bytes: Buffer): Promise<void> {
    const path = join(apart, 'pattern')
    await writeFile(path, Buffer.concat(Array.from({ length: 1024 }, () => bytes)))
    await chmod(path, 0o644)
    for (const { device, at } of Object.values(disks)) {
      const command = `qemu-io -d /machine/peripheral/${device}/virtio-backend "write -s ${path} ${at} 64k"`
      const answer = await agent.fixture.virsh('qemu-monitor-command', '--hmp', guest.vm, command)
      assert.equal(answer.trim(), '')
    }
    await rm(path)
  }

  /** Files of agent, pool and repository, and of libvirt about the VM, that hold these bytes. */
  async function holders(bytes: Buffer): Promise<string[]> {
    const found: string[] = []
    const places = [agent.directory, '/run/libvirt/qemu', '/var/lib/libvirt/qemu', '/var/log/libvirt/qemu']
    const { stdout } = await run('find', [...places, '-type', 'f', '-size', '-256M'], {
      maxBuffer: 16 * mebibyte
    })
    for (const path of stdout.trim().split('\n')) {
      const ours = path.startsWith(agent.directory) || path.includes(guest.vm)
      const content = ours ? await readFile(path).catch(() => Buffer.alloc(0)) : Buffer.alloc(0)
      if (content.includes(bytes)) found.push(path)
    }
    return found
  }

  /** Whether the backup is what the guest had, the canary included. */
  async function same(
    snapshot: string,
    role: Role,
    { kind, canary }: { kind: string; canary: Buffer }
  ): Promise<boolean> {
    const path = join(apart, `${snapshot}.${role}.raw`)
    const repository = ['--repository', pathToFileURL(agent.repository).href, '--key', agent.recoveryPath]
    const words = [
      'backup',
      'export',
      snapshot,
      '--disk',
      role,
      '--format',
      'raw',
      '--to',
      path,
      '--ca',
      agent.caPath
    ]
    const { status, stderr } = await hostlet([...words, ...repository])
    assert.equal(status, 0, stderr)
    const { stdout } = await run('qemu-img', [
      'compare',
      '-f',
      'raw',
      '-F',
      'raw',
      referencePath(kind, role),
      path
    ])
    const content = await readFile(path)
    return /Images are identical/.test(stdout) && content.includes(canary)
  }

  async function reference(name: string): Promise<void> {
    for (const role of roles) {
      const image = `driver=qcow2,encrypt.key-secret=k,file.filename=${await volumePath(role)}`
      const key = ['--object', `secret,id=k,file=${join(apart, 'key')}`]
      await run('qemu-img', [
        'convert',
        '-U',
        ...key,
        '--image-opts',
        image,
        '-O',
        'raw',
        referencePath(name, role)
      ])
    }
  }

  function referencePath(name: string, role: Role): string {
    return join(apart, `${name}.${role}.reference`)
  }

  async function volumePath(role: Role): Promise<string> {
    const placement = (await agent.fixture.hypervisor.findVm(guest.vm, wait()))?.placement
    const name = role === 'root' ? placement?.rootVolume : placement?.dataVolume
    assert.ok(name)
    return join(agent.fixture.pool.path, name)
  }

  /** Makes the disks of the VM, which is off, LUKS ones with the same content. */
  async function seal(): Promise<void> {
    const { virsh } = agent.fixture
    const key = join(apart, 'key')
    await writeFile(key, randomBytes(32).toString('base64'), { mode: 0o600 })
    const xmlPath = join(apart, 'secret.xml')
    const usage = `<usage type='volume'><volume>${guest.uuid}</volume></usage>`
    await writeFile(xmlPath, `<secret ephemeral='yes' private='yes'><uuid>${secret}</uuid>${usage}</secret>`)
    await virsh('secret-define', xmlPath)
    await virsh('secret-set-value', secret, '--file', key, '--plain')
    let xml = await virsh('dumpxml', '--inactive', guest.vm)
    for (const role of roles) {
      const path = await volumePath(role)
      await convert(path, key)
      const element = `<encryption format='luks'><secret type='passphrase' uuid='${secret}'/></encryption>`
      const sealed = xml.replace(`<source file='${path}'/>`, `<source file='${path}'>${element}</source>`)
      assert.notEqual(sealed, xml)
      xml = sealed
    }
    await writeFile(
      xmlPath,
      xml.replaceAll(/<backingStore type=[\s\S]*?<\/backingStore>/g, '<backingStore/>')
    )
    await virsh('define', xmlPath)
  }

  /** QEMU measures CPU time, of which a busy machine gives it none now and then. */
  async function convert(path: string, key: string): Promise<void> {
    const options = 'compat=1.1,encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10'
    const words = [
      '--object',
      `secret,id=k,file=${key}`,
      '-O',
      'qcow2',
      '-o',
      options,
      path,
      `${path}.sealed`
    ]
    for (let left = 5; ; left--) {
      try {
        await run('qemu-img', ['convert', ...words])
        break
      } catch (error) {
        if (left === 1) throw error
      }
    }
    const { uid, gid } = await stat(path)
    await run('chown', [`${uid}:${gid}`, `${path}.sealed`])
    await rename(`${path}.sealed`, path)
  }
})
