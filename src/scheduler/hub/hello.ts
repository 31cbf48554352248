// The first message of a connection, and how any message is read: what is refused, and in which words.

import { HostletError } from '../../errors.ts'
import { type AgentMessage, type AgentMessageOf, protocolVersion } from '../../protocol/messages.ts'
import { parseAgentMessage } from '../../protocol/validate.ts'

/** Reads a message. Throws E_BAD_REQUEST. */
export function readMessage(data: Buffer, isBinary: boolean): AgentMessage {
  return parseAgentMessage(readText(data, isBinary))
}

/**
 * Reads the hello of a host. Throws E_BAD_REQUEST for anything else, E_UNSUPPORTED for another version of the protocol,
 * E_AUTH when it names another host than the certificate does.
 */
export function readHello(data: Buffer, isBinary: boolean, host: string): AgentMessageOf<'hello'> {
  const text = readText(data, isBinary)
  assertProtocol(text)
  const message = parseAgentMessage(text)
  if (message.type !== 'hello')
    throw new HostletError('E_BAD_REQUEST', `the first message must be hello, not ${message.type}`)
  if (message.hostId === host) return message
  throw new HostletError('E_AUTH', `hello is from ${message.hostId}, the certificate is of ${host}`)
}

function readText(data: Buffer, isBinary: boolean): string {
  if (isBinary) throw new HostletError('E_BAD_REQUEST', 'message of the agent: expected text, got binary')
  return data.toString()
}

/** An agent of another protocol is told so, rather than which key of its hello is wrong. */
function assertProtocol(text: string): void {
  const protocol = versionOf(text)
  if (protocol === undefined || protocol === protocolVersion) return
  throw new HostletError(
    'E_UNSUPPORTED',
    `the agent speaks protocol ${protocol}, this scheduler ${protocolVersion}. Upgrade the older of the two.`
  )
}

function versionOf(text: string): number | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value !== 'object' || value === null) return undefined
    return 'protocol' in value && typeof value.protocol === 'number' ? value.protocol : undefined
  } catch {
    // Not JSON: the parser says so with a better message.
    return undefined
  }
}
