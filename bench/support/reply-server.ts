// A stand-in for libvirtd that answers every call for statistics with the same bytes: it costs no time to make them.

import { readFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import {
  authList,
  connectGetAllDomainStats,
  connectGetLibVersion,
  connectGetType,
  connectGetVersion,
  connectSupportsFeature,
  encodeAll
} from 'node-libvirt'

const HEADER_BYTES = 28
const [socketPath = '', payloadPath = ''] = process.argv.slice(2)

const answers = new Map<number, Buffer>([
  [authList.number, encodeAll(authList.result, { types: [] }, 64)],
  [connectGetType.number, encodeAll(connectGetType.result, { type: 'Test' }, 64)],
  [connectGetVersion.number, encodeAll(connectGetVersion.result, { version: 2 }, 64)],
  [connectGetLibVersion.number, encodeAll(connectGetLibVersion.result, { version: 9_000_000 }, 64)],
  [connectSupportsFeature.number, encodeAll(connectSupportsFeature.result, { supported: false }, 64)],
  [connectGetAllDomainStats.number, Buffer.from(readFileSync(payloadPath))]
])

createServer(serve).listen(socketPath, () => process.send?.('ready'))
process.once('disconnect', () => process.exit())

function serve(socket: Socket): void {
  let waiting = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    waiting = Buffer.concat([waiting, chunk])
    while (waiting.length >= HEADER_BYTES && waiting.length >= waiting.readUInt32BE(0)) {
      const length = waiting.readUInt32BE(0)
      answer(socket, waiting.subarray(0, HEADER_BYTES))
      waiting = waiting.subarray(length)
    }
  })
  socket.on('error', () => socket.destroy())
}

/** The header of a reply is that of its call, with type 1 (reply) and its own length. */
function answer(socket: Socket, call: Buffer): void {
  const payload = answers.get(call.readInt32BE(12)) ?? Buffer.alloc(0)
  const header = Buffer.from(call)
  header.writeUInt32BE(HEADER_BYTES + payload.length, 0)
  header.writeInt32BE(1, 16)
  socket.write(header)
  socket.write(payload)
}
