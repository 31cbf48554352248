// What a serial console asks of the hypervisor besides the rest of the port: the bytes that a guest sends and is sent, for as long as it is on.

import type { Duplex } from 'node:stream'
import type { Wait } from './hypervisor.ts'

export interface OpenConsole {
  /** Destroy it to let go of the port. */
  readonly stream: Duplex
  /** Resolves once the port is free for another, after the stream has ended or was destroyed; never rejects. */
  readonly released: Promise<void>
}

export interface ConsoleHypervisor {
  /**
   * Opens the first serial port of a VM that is on. The stream ends when the machine goes off, and is destroyed with an error
   * when the hypervisor goes away, or when somebody throws us out; a reboot leaves it open. The signal ends the opening, not
   * the stream. E_NOT_FOUND; E_CONFLICT for a VM that is off, and for a port that somebody has open, unless `force` throws
   * them out.
   */
  openConsole(name: string, options: { readonly force: boolean }, wait: Wait): Promise<OpenConsole>
}
