// A TCP proxy that does to connections what networks do: cuts them, stalls them, changes their bytes, answers in the server's place.

import { connect, createServer, type Server, type Socket } from 'node:net'

/** What happens to the next connections, each rule for one. */
export type Fault =
  | { readonly kind: 'refuse' }
  /** Cut after so many bytes from the client (`up`) or the server (`down`). */
  | { readonly kind: 'cut'; readonly direction: 'up' | 'down'; readonly afterBytes: number }
  /** Flips one bit of what the client sends, at so many bytes. */
  | { readonly kind: 'flip'; readonly atByte: number }
  /** Answers this instead of the server, once the request begins. */
  | { readonly kind: 'answer'; readonly text: string }
  /** Passes everything to the server, and nothing back. */
  | { readonly kind: 'silence' }

export class BreakingProxy implements AsyncDisposable {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #faults: Fault[] = []
  /** Connections so far. */
  connections = 0
  faultsUsed = 0

  private constructor(targetPort: number) {
    this.#server = createServer((client) => this.#connected(client, targetPort))
  }

  static async start(targetPort: number): Promise<BreakingProxy> {
    const proxy = new BreakingProxy(targetPort)
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve))
    return proxy
  }

  get endpoint(): string {
    return `http://127.0.0.1:${Object(this.#server.address()).port}`
  }

  /** The next connections suffer these, one each; open ones are cut so that there are next ones. */
  break(...faults: Fault[]): void {
    this.#faults.splice(0, Number.POSITIVE_INFINITY, ...faults)
    for (const socket of this.#sockets) socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #connected(client: Socket, targetPort: number): void {
    this.connections++
    const fault = this.#faults.shift()
    this.#track(client)
    if (fault !== undefined) this.faultsUsed++
    if (fault?.kind === 'refuse') return void client.resetAndDestroy()
    if (fault?.kind === 'answer') return void client.once('data', () => client.end(fault.text))
    const server = this.#track(connect(targetPort, '127.0.0.1'))
    const cut = () => {
      client.resetAndDestroy()
      server.destroy()
    }
    client.once('close', () => server.destroy())
    server.once('close', () => client.destroy())
    pass(client, server, 'up', fault, cut)
    pass(server, client, 'down', fault, cut)
  }

  #track(socket: Socket): Socket {
    this.#sockets.add(socket)
    // What breaks here is meant to.
    return socket.on('error', () => undefined).once('close', () => this.#sockets.delete(socket))
  }
}

function pass(
  from: Socket,
  to: Socket,
  direction: 'up' | 'down',
  fault: Fault | undefined,
  cut: () => void
): void {
  let seen = 0
  from.on('data', (chunk: Buffer) => {
    const before = seen
    seen += chunk.length
    if (fault?.kind === 'silence' && direction === 'down') return
    if (fault?.kind === 'cut' && fault.direction === direction && seen > fault.afterBytes) return cut()
    if (fault?.kind === 'flip' && direction === 'up' && before <= fault.atByte && fault.atByte < seen) {
      const at = fault.atByte - before
      chunk[at] = (chunk[at] ?? 0) ^ 1
    }
    if (!to.write(chunk)) {
      from.pause()
      to.once('drain', () => from.resume())
    }
  })
  from.once('end', () => to.end())
}
