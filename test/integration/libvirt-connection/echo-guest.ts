/** EchoGuest: a QEMU domain of half a kilobyte of code that sends back each byte it receives on its serial port. */
import { Buffer } from 'node:buffer'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type Connection,
  type Domain,
  domainCreateXml,
  domainDestroy
} from '../../../src/node-libvirt/index.ts'
import { hex } from '../../node-libvirt/hex.ts'

const SECTOR_BYTES = 512
const CREATE_AUTODESTROY = 2

/** Sleeps until an interrupt (the timer's 18 a second), then sends back what has come. */
const program = hex(`
  fb        # sti
  f4        # hlt
  ba fd03   # mov dx, 0x3fd: line status of COM1
  ec        # in al, dx
  a8 01     # test al, 1: a byte has come
  74 f6     # jz to sti
  ba f803   # mov dx, 0x3f8: data of COM1
  ec        # in al, dx
  ee        # out dx, al
  eb ee     # jmp to sti`)

export class EchoGuest implements AsyncDisposable {
  readonly domain: Domain
  readonly #connection: Connection
  readonly #diskPath: string

  private constructor(connection: Connection, { domain, diskPath }: { domain: Domain; diskPath: string }) {
    this.#connection = connection
    this.domain = domain
    this.#diskPath = diskPath
  }

  /** Starts it from a disk in `directory`, which QEMU must be able to read. It dies with the connection. */
  static async start(connection: Connection, { name, directory }: { name: string; directory: string }) {
    const diskPath = join(directory, `${name}.img`)
    const sector = Buffer.alloc(SECTOR_BYTES)
    program.copy(sector)
    sector.writeUInt16BE(0x55aa, SECTOR_BYTES - 2)
    await writeFile(diskPath, sector)
    const xml = `<domain type='qemu'>
      <name>${name}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
      <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
      <devices>
        <disk type='file' device='disk'>
          <driver name='qemu' type='raw'/><source file='${diskPath}'/><target dev='hda' bus='ide'/>
        </disk>
        <serial type='pty'/><console type='pty'/><memballoon model='virtio'/>
      </devices></domain>`
    const { domain } = await connection.call(domainCreateXml, { xml, flags: CREATE_AUTODESTROY })
    return new EchoGuest(connection, { domain, diskPath })
  }

  /** Stops QEMU in its tracks (SIGSTOP), as a hung one would be, until what it returns is called. */
  async freeze(): Promise<() => void> {
    const pid = Number(await readFile(`/run/libvirt/qemu/${this.domain.name}.pid`, 'utf8'))
    process.kill(pid, 'SIGSTOP')
    return () => process.kill(pid, 'SIGCONT')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection.call(domainDestroy, { domain: this.domain })
    await rm(this.#diskPath, { force: true })
  }
}
