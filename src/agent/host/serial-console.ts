// The serial port of a running VM as a stream: the only place that opens one. Who may is decided above, by a grant in a signed command.

import { type Connection, consoleFlag, type Domain, domainOpenConsole, errorCode } from 'node-libvirt'
import { HostletError } from '../../errors.ts'
import type { OpenConsole } from './console-port.ts'
import type { Domains } from './domains.ts'
import type { Wait } from './hypervisor.ts'
import { fromLibvirt, isAnswer } from './libvirt-errors.ts'

const openMs = 10_000

export interface SerialConsoleParts {
  readonly domains: Pick<Domains, 'require'>
  /** A connection of its own: a console that is not read pauses it. */
  streamConnection(signal: AbortSignal): Promise<Connection>
}

/** See `ConsoleHypervisor`. */
export async function openConsole(
  name: string,
  { force }: { readonly force: boolean },
  { domains, streamConnection }: SerialConsoleParts,
  wait: Wait
): Promise<OpenConsole> {
  const { domain } = await domains.require(name, wait)
  const connection = await streamConnection(wait.signal)
  try {
    const stream = await openOn(connection, domain, force, wait)
    const released = stream.settled.then(() => drop(connection))
    return { stream, released }
  } catch (error) {
    void drop(connection)
    throw told(error, name)
  }
}

/** The stream outlives the wait for it. */
async function openOn(connection: Connection, domain: Domain, force: boolean, { signal }: Wait) {
  const opening = new AbortController()
  const abort = () => opening.abort(signal.reason)
  signal.throwIfAborted()
  signal.addEventListener('abort', abort, { once: true })
  try {
    const flags = force ? consoleFlag.force : consoleFlag.safe
    const options = { signal: opening.signal, deadlineMs: openMs }
    return await connection.duplex(domainOpenConsole, { domain, device: null, flags }, options)
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

function told(error: unknown, name: string): HostletError {
  const details = { vm: name }
  if (isAnswer(error, errorCode.operationInvalid))
    return new HostletError(
      'E_CONFLICT',
      `VM ${name} is off: there is nothing to see on its console. Start it with "hostlet vm start ${name}".`,
      { cause: error, details }
    )
  if (isAnswer(error, errorCode.operationFailed))
    return new HostletError(
      'E_CONFLICT',
      `the console of VM ${name} is open on the host itself, as with "virsh console". Ask who it is, or take it over with --take-over.`,
      { cause: error, details }
    )
  return fromLibvirt(error, `open the console of VM ${name}`)
}

/** With the connection libvirtd forgets the stream, whether or not it has confirmed its end. */
async function drop(connection: Connection): Promise<void> {
  await connection.close().catch(() => undefined)
}
