// The thread's side of reading: entries are decrypted, decompressed and checked against their addresses.

import { createSecretKey, type KeyObject } from 'node:crypto'
import { workerData } from 'node:worker_threads'
import { HostletError } from '../../errors.ts'
import { corrupt } from '../format/corrupt.ts'
import { openEntry } from '../format/entry.ts'
import { addressBytes, deriveVaultKeys } from '../format/keys.ts'
import { serveTasks } from '../workers/protocol.ts'
import { type BlockOutput, FileWriter, noOutput, ReplyOutput } from './open-outputs.ts'
import {
  type OpenFault,
  type OpenReply,
  type OpenRequest,
  type OpenWorkerData,
  release,
  rowNumbers
} from './open-task.ts'

const { vmKey } = workerData as OpenWorkerData
const keys = deriveVaultKeys(vmKey)
let lastPack: { id: string; key: KeyObject } | undefined

serveTasks<OpenRequest, OpenReply>((request) => {
  const { output, rows } = request
  if (output !== 'reply') {
    const faults = openAll(request, output === 'none' ? noOutput : new FileWriter(output))
    return { reply: { faults } }
  }
  const reply = new ReplyOutput(rows.length / rowNumbers)
  const faults = openAll(request, reply)
  return { reply: { plain: reply.plain, faults }, transfer: [reply.plain.buffer] }
})

function openAll(request: OpenRequest, output: BlockOutput): OpenFault[] {
  const faults: OpenFault[] = []
  const key = packKey(request.pack)
  for (let index = 0; index < request.rows.length / rowNumbers; index++) {
    const opened = openOne(request, index, key)
    if (opened instanceof Uint8Array) output.put(index, opened)
    else faults.push({ index, ...opened })
  }
  output.end()
  release(request.bytes)
  return faults
}

function openOne(request: OpenRequest, index: number, key: KeyObject): Uint8Array | Omit<OpenFault, 'index'> {
  const { rows, bytes, object, addresses } = request
  const at = index * rowNumbers
  const [number = 0, offset = 0, length = 0, flags = 0] = rows.subarray(at, at + rowNumbers)
  const sealed = bytes.subarray(offset, offset + length)
  try {
    const block = openEntry({ key, number, flags, sealed }, 'block', object)
    // Also where it is restored: a pack's key is known to all who ever had the VM key, and only the addresses tie the
    // content to the host that signed for it.
    const address = addresses.subarray(index * addressBytes, (index + 1) * addressBytes)
    if (keys.addressOf(block).equals(address)) return block
    const { message } = corrupt({ object, entry: number }, 'is another block than the tree means')
    return { kind: 'wrong-address', message }
  } catch (error) {
    if (!(error instanceof HostletError)) throw error
    return { kind: 'damaged-entry', message: error.message }
  }
}

function packKey(pack: Uint8Array): KeyObject {
  const id = Buffer.from(pack).toString('hex')
  if (lastPack?.id !== id) lastPack = { id, key: createSecretKey(keys.packKey(pack)) }
  return lastPack.key
}
