/** What a declaration of libvirt's protocol is: a procedure that can be called, an event that can come. */
import type { AnyType } from '../xdr/schema.ts'

/** Numbers of the RPC programs (remote_protocol.x, qemu_protocol.x, virkeepaliveprotocol.x). */
export const programs = { remote: 0x2000_8086, qemu: 0x2000_8087, keepalive: 0x6b65_6570 } as const

export type Program = Exclude<keyof typeof programs, 'keepalive'>

/** The last procedure of each program in libvirt 9.0, the oldest that this package serves. Numbers are only added. */
const lastOf9: Readonly<Record<Program, number>> = { remote: 443, qemu: 7 }

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
  readonly stream?: 'read' | 'write' | null
}

export function procedure<Args extends AnyType, Result extends AnyType>(
  number: number,
  args: Args,
  result: Result,
  { program = 'remote', priority = 'low', stream = null }: ProcedureOptions = {}
): Procedure<Args, Result> {
  return { program, number, args, result, priority, stream, newerThan9: number > lastOf9[program] }
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
