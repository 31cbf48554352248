// A socket whose bytes go where a parser wants them.

import { connect, type OnReadOpts, type Socket } from 'node:net'

export type NbdAddress = { readonly socketPath: string } | { readonly host: string; readonly port: number }

/**
 * `onread` with a function lets the kernel write where the parser wants the bytes. The function is called after each callback and
 * names what the next read fills, so memory named before is free as soon as a callback has run.
 */
export function openSocket(address: NbdAddress, onread: OnReadOpts): Socket {
  if ('socketPath' in address) return connect({ path: address.socketPath, onread })
  return connect({ host: address.host, port: address.port, noDelay: true, onread })
}
