// The thread's side of reading: entries are decrypted, decompressed and checked against their addresses.

import { workerData } from 'node:worker_threads'
import { asHostletError, type HostletError } from '../../errors.ts'
import { blockBytes } from '../disk.ts'
import { corrupt } from '../format/corrupt.ts'
import { openEntry } from '../format/entry.ts'
import { addressBytes, deriveVaultKeys } from '../format/keys.ts'
import { serveTasks } from '../workers/protocol.ts'
import { type OpenReply, type OpenRequest, type OpenWorkerData, release, rowNumbers } from './open-task.ts'

const { vmKey } = workerData as OpenWorkerData
const keys = deriveVaultKeys(vmKey)
let lastPack: { id: string; key: Buffer } = { id: '', key: Buffer.alloc(0) }

serveTasks<OpenRequest, OpenReply>((request) => {
  const count = request.rows.length / rowNumbers
  const plain = request.wantPlain ? new Uint8Array(count * blockBytes) : undefined
  const faults: OpenReply['faults'][number][] = []
  for (let index = 0; index < count; index++) {
    const fault = openOne(request, index, plain)
    if (fault !== undefined) faults.push({ index, kind: fault.kind, message: fault.error.message })
  }
  release(request.bytes)
  return plain === undefined ? { reply: { faults } } : { reply: { plain, faults }, transfer: [plain.buffer] }
})

function openOne(
  request: OpenRequest,
  index: number,
  plain: Uint8Array | undefined
): { kind: 'damaged-entry' | 'wrong-address'; error: HostletError } | undefined {
  const { rows, bytes, object } = request
  const at = index * rowNumbers
  const [number = 0, offset = 0, length = 0, flags = 0] = rows.subarray(at, at + rowNumbers)
  const sealed = bytes.subarray(offset, offset + length)
  try {
    const block = openEntry({ key: packKey(request.pack), number, flags, sealed }, 'block', object)
    const address = request.addresses.subarray(index * addressBytes, (index + 1) * addressBytes)
    if (!keys.addressOf(block).equals(address))
      return {
        kind: 'wrong-address',
        error: corrupt({ object, entry: number }, 'is another block than the tree means')
      }
    plain?.set(block, index * blockBytes)
    // A view of a whole buffer: pieces of the pool that Node keeps are shorter than what they are cut from.
    if (block.buffer.byteLength === blockBytes) release(block)
    return undefined
  } catch (error) {
    return { kind: 'damaged-entry', error: asHostletError(error) }
  }
}

function packKey(pack: Uint8Array): Buffer {
  const id = Buffer.from(pack).toString('hex')
  if (lastPack.id !== id) lastPack = { id, key: keys.packKey(pack) }
  return lastPack.key
}
