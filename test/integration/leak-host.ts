// A host for the attack on its files: a disk of its own, whose every block can be read, with a libvirtd and an encrypted VM on it.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { chmod, copyFile, mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { QemuLogs, qemuLogDirectory } from '../../src/agent/host/qemu-logs.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { PrivateLibvirtd } from './libvirt-connection/private-libvirtd.ts'

const run = promisify(execFile)
const diskBytes = 192 * 1024 ** 2
const chunkBytes = 8 * 1024 ** 2
const overlapBytes = 512
const uid = 1_950_000_000 + (randomBytes(2).readUInt16BE() % 10_000)
const mountUnit = 'systemd/var-log-libvirt-qemu.mount'

export class LeakHost implements AsyncDisposable {
  readonly vm = `hl-t-${randomBytes(3).toString('hex')}`
  readonly passphrase = randomBytes(32).toString('base64')
  /** What the guest writes to its disk. */
  readonly canary = randomBytes(64)
  /** Where the host's disk is mounted. */
  readonly root: string
  readonly volume: string
  readonly #outside: string
  readonly #secret = randomUUID()
  #daemon: PrivateLibvirtd | undefined
  readonly #logs: 'memory' | 'disk'

  private constructor(outside: string, logs: 'memory' | 'disk') {
    this.#outside = outside
    this.#logs = logs
    this.root = join(outside, 'root')
    this.volume = join(this.root, 'pool', `${this.vm}.root.qcow2`)
  }

  /** With QEMU's logs where the product has them (`memory`: as systemd/var-log-libvirt-qemu.mount says), or where libvirt does. */
  static async start(logs: 'memory' | 'disk'): Promise<LeakHost> {
    const outside = await mkdtemp('/dev/shm/hl-t-leak-')
    await chmod(outside, 0o711)
    const host = new LeakHost(outside, logs)
    try {
      await host.#begin()
    } catch (error) {
      await host[Symbol.asyncDispose]()
      throw error
    }
    return host
  }

  /** A file as libvirtd sees it. */
  seen(path: string): string {
    return join(`/proc/${this.#daemon?.pid}/root`, path)
  }

  virsh = async (...args: string[]): Promise<string> => {
    const { uri } = this.#daemon ?? {}
    const { stdout } = await run('virsh', ['-q', '-c', uri ?? '', ...args], { timeout: 120_000 })
    return stdout
  }

  /** As the agent does: libvirt's copy of the key goes with the start, the log with the VM. */
  async teardown(): Promise<void> {
    await this.virsh('destroy', this.vm)
    await this.virsh('undefine', this.vm)
    await this.virsh('secret-undefine', this.#secret)
    await rm(this.volume)
    await new QemuLogs({ directory: this.seen(qemuLogDirectory), log: silentLogger }).remove(this.vm)
  }

  /** Where in the blocks of the disk the bytes are, files that were removed included. */
  async blocksWith(...patterns: readonly Buffer[]): Promise<boolean[]> {
    await run('sync', ['-f', this.root])
    const found = patterns.map(() => false)
    await using file = await open(join(this.#outside, 'disk'))
    const chunk = Buffer.alloc(chunkBytes + overlapBytes)
    for (let at = 0; at < diskBytes; at += chunkBytes) {
      const { bytesRead } = await file.read(chunk, 0, chunk.length, at)
      const part = chunk.subarray(0, bytesRead)
      for (const [index, pattern] of patterns.entries()) found[index] ||= part.includes(pattern)
    }
    return found
  }

  async readSeen(path: string): Promise<Buffer> {
    return await readFile(this.seen(path))
  }

  /** Paths below the disk's root whose content has the bytes. */
  async filesWith(bytes: Buffer): Promise<string[]> {
    const { stdout } = await run('find', [this.root, '-type', 'f'], { maxBuffer: 16 * 1024 ** 2 })
    const found: string[] = []
    for (const path of stdout.split('\n').filter((path) => path !== ''))
      if ((await readFile(path)).includes(bytes)) found.push(path)
    return found
  }

  async keyPath(): Promise<string> {
    const id = (await this.virsh('domid', this.vm)).trim()
    return `/var/lib/libvirt/qemu/domain-${id}-${this.vm}/master-key.aes`
  }

  /** Opens a copy of the VM's disk with a passphrase and reads what the guest wrote first. */
  async openDisk(passphrase: string): Promise<Buffer> {
    const [copy, key, raw] = ['stolen', 'stolen.key', 'stolen.raw'].map((name) => join(this.#outside, name))
    assert.ok(copy && key && raw)
    await copyFile(this.volume, copy)
    await writeFile(key, passphrase)
    const image = `driver=qcow2,encrypt.key-secret=k,file.filename=${copy}`
    const words = ['convert', '--object', `secret,id=k,file=${key}`, '--image-opts', image, '-O', 'raw', raw]
    await run('qemu-img', words)
    const content = await readFile(raw)
    for (const path of [copy, key, raw]) await rm(path)
    return content
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#daemon !== undefined) {
      await this.virsh('destroy', this.vm).catch(() => undefined)
      await this.#daemon.kill()
    }
    await run('umount', [this.root]).catch(() => undefined)
    await rm(this.#outside, { recursive: true, force: true })
  }

  async #begin(): Promise<void> {
    const disk = join(this.#outside, 'disk')
    await writeFile(disk, '')
    await run('truncate', ['-s', String(diskBytes), disk])
    await run('mkfs.ext4', ['-q', '-E', 'nodiscard', disk])
    await mkdir(this.root)
    await run('mount', ['-o', 'loop,nodiscard', disk, this.root])
    await chmod(this.root, 0o711)
    await mkdir(join(this.root, 'pool'), { mode: 0o711 })
    this.#daemon = await PrivateLibvirtd.startSystem({
      parent: this.root,
      mounts: this.#logs === 'memory' ? await shippedMount() : ''
    })
    await this.#createDisk()
    await this.#defineSecret()
    await this.#startVm()
  }

  async #createDisk(): Promise<void> {
    const key = join(this.#outside, 'key')
    await writeFile(key, this.passphrase, { mode: 0o600 })
    const options = 'compat=1.1,encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10'
    const words = ['create', '-q', '-f', 'qcow2', '--object', `secret,id=k,file=${key}`, '-o', options]
    // QEMU measures CPU time, of which a busy machine gives it none now and then.
    for (let left = 5; ; left--) {
      try {
        await run('qemu-img', [...words, this.volume, '16M'])
        break
      } catch (error) {
        if (left === 1) throw error
      }
    }
  }

  async #defineSecret(): Promise<void> {
    const path = join(this.#outside, 'secret.xml')
    const usage = `<usage type='volume'><volume>${this.vm}</volume></usage>`
    await writeFile(
      path,
      `<secret ephemeral='yes' private='yes'><uuid>${this.#secret}</uuid>${usage}</secret>`
    )
    await this.virsh('secret-define', path)
    await this.virsh('secret-set-value', this.#secret, '--file', join(this.#outside, 'key'), '--plain')
  }

  async #startVm(): Promise<void> {
    const path = join(this.#outside, 'domain.xml')
    const secret = `<secret type='passphrase' uuid='${this.#secret}'/>`
    const gid = (await stat('/var/lib/libvirt/qemu')).gid
    await writeFile(
      path,
      `<domain type='qemu'><name>${this.vm}</name><memory unit='MiB' dumpCore='off'>32</memory><vcpu>1</vcpu>
      <os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
      <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>
      <source file='${this.volume}'><encryption format='luks'>${secret}</encryption></source>
      <target dev='vda' bus='virtio'/></disk><controller type='usb' model='none'/></devices>
      <seclabel type='static' model='dac' relabel='yes'><label>+${uid}:+${gid}</label></seclabel></domain>`
    )
    await this.virsh('define', path)
    await this.virsh('start', this.vm)
    await this.#writeCanary()
  }

  /** Through the device, as the guest would. */
  async #writeCanary(): Promise<void> {
    const path = join(this.#outside, 'canary')
    await writeFile(path, Buffer.concat(Array.from({ length: 1024 }, () => this.canary)))
    await chmod(path, 0o644)
    const device = '/machine/peripheral/virtio-disk0/virtio-backend'
    const command = `qemu-io -d ${device} "write -s ${path} 1M 64k"`
    assert.equal((await this.virsh('qemu-monitor-command', '--hmp', this.vm, command)).trim(), '')
    await this.virsh('qemu-monitor-command', '--hmp', this.vm, `qemu-io -d ${device} "flush"`)
    await rm(path)
  }
}

/** What the unit mounts. The group of the agent is not on every machine that runs tests. */
async function shippedMount(): Promise<string> {
  const unit = await readFile(mountUnit, 'utf8')
  const value = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1] ?? ''
  const options = value('Options').replace('gid=hostlet,', '')
  return `mkdir -p ${value('Where')}\nmount -t ${value('Type')} -o ${options} ${value('What')} ${value('Where')}`
}
