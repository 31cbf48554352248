// The servers of the world outside, run in its namespace: each thing that reaches one is told as a line of JSON.
//
//   node outside-server.ts ADDRESS...   says {"ready":true}, then one {to, port, transport, from, text} a line

import { createSocket } from 'node:dgram'
import { createServer, type Socket } from 'node:net'

const tcpPorts = [22, 25, 53, 80, 443, 853, 5000, 8080]
const udpPorts = [53, 123, 443, 5000]
const textBytesMax = 512
/** Of what `GET /endless` sends at once. */
const chunk = Buffer.alloc(64 * 1024, 'x')
/** What every name's address is said to be. */
const anyAddress = [198, 51, 100, 200]

const addresses = process.argv.slice(2)
await Promise.all(
  addresses.flatMap((address) => [
    ...tcpPorts.map((port) => listenTcp(address, port)),
    ...udpPorts.map((port) => listenUdp(address, port))
  ])
)
say({ ready: true })

function listenTcp(to: string, port: number): Promise<void> {
  const server = createServer((socket) => {
    const { remoteAddress: from, remotePort: fromPort } = socket
    socket.on('error', () => socket.destroy())
    socket.on('data', (data: Buffer) => {
      say({ transport: 'tcp', to, port, from, fromPort, text: textOf(data) })
      answerTcp(socket, port, data)
    })
  })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject).listen(port, to, resolve)
  return promise
}

function answerTcp(socket: Socket, port: number, data: Buffer): void {
  if (port === 53) {
    const answer = answerTo(data.subarray(2))
    const length = Buffer.alloc(2)
    length.writeUInt16BE(answer.length)
    socket.write(Buffer.concat([length, answer]))
  } else if (data.toString('latin1').startsWith('GET /endless')) {
    socket.write('HTTP/1.0 200 OK\r\n\r\n')
    const pour = () => {
      while (!socket.destroyed && socket.write(chunk));
    }
    socket.on('drain', pour)
    pour()
  } else if (data.toString('latin1').startsWith('GET ')) {
    socket.end('HTTP/1.0 200 OK\r\nContent-Length: 8\r\n\r\noutside\n')
  } else socket.write(data)
}

function listenUdp(to: string, port: number): Promise<void> {
  const socket = createSocket('udp4')
  socket.on('message', (data, remote) => {
    say({ transport: 'udp', to, port, from: remote.address, fromPort: remote.port, text: textOf(data) })
    socket.send(port === 53 ? answerTo(data) : data, remote.port, remote.address, () => undefined)
  })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  socket.once('error', reject).bind(port, to, resolve)
  return promise
}

/** An address for each name, no name for any address (RFC 1035, 4.1). */
function answerTo(query: Buffer): Buffer {
  const end = query.indexOf(0, 12) + 5
  // Words that are no question.
  if (end < 17 || end > query.length) return query
  const question = query.subarray(12, end)
  const isAddress = question.readUInt16BE(question.length - 4) === 1
  const header = Buffer.from([
    query[0] ?? 0,
    query[1] ?? 0,
    0x81,
    isAddress ? 0x80 : 0x83,
    0,
    1,
    0,
    isAddress ? 1 : 0,
    0,
    0,
    0,
    0
  ])
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...anyAddress])
  return Buffer.concat([header, question, ...(isAddress ? [record] : [])])
}

function textOf(data: Buffer): string {
  return data.subarray(0, textBytesMax).toString('latin1')
}

function say(message: unknown): void {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}
