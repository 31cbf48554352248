// A process that changes the passphrase of a disk, on files, and is killed at a point that its arguments name.

import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { DiskKeys } from '../../src/agent/keys/disk-keys.ts'
import { HostKey } from '../../src/agent/keys/host-key.ts'
import { Rekeying } from '../../src/agent/keys/rekeying.ts'
import { systemClock } from '../../src/lib/clock.ts'

const [directory = '', id = '', point = ''] = process.argv.slice(2)
const disk = join(directory, 'disk.qcow2')
const wait = { signal: AbortSignal.timeout(300_000) }
const clock = systemClock
let writes = 0

function reached(here: string): void {
  if (here === point) process.kill(process.pid, 'SIGKILL')
}

const hypervisor = {
  async readRange(_name: string, { offsetBytes, lengthBytes }: { offsetBytes: number; lengthBytes: number }) {
    await using file = await open(disk)
    const bytes = Buffer.alloc(lengthBytes)
    await file.read(bytes, 0, lengthBytes, offsetBytes)
    return bytes
  },
  async writeRange(_name: string, offsetBytes: number, bytes: Buffer) {
    writes++
    await using file = await open(disk, 'r+')
    const half = Math.ceil(bytes.length / 2 / 512) * 512
    await file.write(bytes, 0, half, offsetBytes)
    reached(`half of write ${writes}`)
    await file.write(bytes, half, bytes.length - half, offsetBytes + half)
    reached(`write ${writes}`)
  },
  removeSecret: () => Promise.resolve()
}

/** Dies right after a record of the key was written. */
class Killed extends DiskKeys {
  override async beginChange(key: string) {
    const change = await super.beginChange(key)
    reached('the new one is kept')
    return change
  }

  override turnOver(key: string): void {
    reached('both open it')
    super.turnOver(key)
    reached('the new one is used')
  }

  override endChange(key: string): void {
    super.endChange(key)
    reached('the old one is destroyed')
  }
}

const hostKey = await HostKey.open({ stateDirectory: directory, clock })
const keys = new Killed({ directory: join(directory, 'keys'), hostKey: () => hostKey, clock })
await keys.prepare()
const rekeying = new Rekeying({ hypervisor, keys, directory, clock })
await rekeying.add({ id, volume: 'disk.qcow2' }, wait)
await rekeying.end({ id, volume: 'disk.qcow2' }, wait)
