/** What a declaration of libvirt's protocol is: a procedure that can be called, an event that can come. */
import type { AnyType } from '../xdr/schema.ts'

/** Numbers of the RPC programs (remote_protocol.x, qemu_protocol.x, virkeepaliveprotocol.x). */
export const programs = { remote: 0x2000_8086, qemu: 0x2000_8087, keepalive: 0x6b65_6570 } as const

export type Program = Exclude<keyof typeof programs, 'keepalive'>

/** `low`, the default, hangs while every ordinary worker of libvirtd is blocked; `high` goes on. */
export type Priority = 'high' | 'low'

export interface Procedure<Args extends AnyType = AnyType, Result extends AnyType = AnyType> {
  readonly program: Program
  readonly number: number
  readonly args: Args
  readonly result: Result
  readonly priority: Priority
  /** Which way data flows after the reply, seen from the client; null for plain calls. */
  readonly stream: 'read' | 'write' | null
  /** Absent from libvirt 9.0.0: the caller must expect `E_UNSUPPORTED`. */
  readonly newerThan9: boolean
}

export interface ProcedureOptions {
  readonly program?: Program
  readonly priority?: Priority
  readonly stream?: 'read' | 'write'
  readonly newerThan9?: boolean
}

export function procedure<Args extends AnyType, Result extends AnyType>(
  number: number,
  args: Args,
  result: Result,
  { program = 'remote', priority = 'low', stream, newerThan9 = false }: ProcedureOptions = {}
): Procedure<Args, Result> {
  return { program, number, args, result, priority, stream: stream ?? null, newerThan9 }
}

/** A message that the server sends on its own; the payload's first field is the callback id. */
export interface LibvirtEvent<Payload extends AnyType = AnyType> {
  readonly program: Program
  readonly number: number
  readonly payload: Payload
}

export function event<Payload extends AnyType>(
  number: number,
  payload: Payload,
  { program = 'remote' }: { readonly program?: Program } = {}
): LibvirtEvent<Payload> {
  return { program, number, payload }
}
