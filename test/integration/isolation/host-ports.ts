// Ports of the host itself, at all of its addresses: what reaches them is kept.

import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'

export class HostPorts implements AsyncDisposable {
  readonly port: number
  readonly #server: Server
  readonly #socket: UdpSocket
  readonly #texts: string[] = []

  private constructor(server: Server, socket: UdpSocket) {
    this.#server = server
    this.#socket = socket
    this.port = (server.address() as AddressInfo).port
    server.on('connection', (peer) => {
      peer.on('error', () => peer.destroy())
      peer.on('data', (data) => {
        this.#texts.push(data.toString('latin1'))
        peer.end('host\n')
      })
    })
    socket.on('message', (data) => this.#texts.push(data.toString('latin1')))
  }

  static async open(): Promise<HostPorts> {
    const server = createServer().listen(0, '0.0.0.0')
    await once(server, 'listening')
    const socket = createSocket('udp4').bind((server.address() as AddressInfo).port, '0.0.0.0')
    await once(socket, 'listening')
    return new HostPorts(server, socket)
  }

  heard(words: string): boolean {
    return this.#texts.some((text) => text.includes(words))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close()
    this.#server.close()
  }
}
