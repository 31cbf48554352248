// What is fuzzed with a corpus, and what has to hold for any input: an answer within bounds or an error with its code, nothing else.

import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as libvirt from 'node-libvirt'
import { AgentConfigSchema } from '../../src/agent/config.ts'
import { CommandVerifier } from '../../src/agent/operations/command-verifier.ts'
import { PolicySchema } from '../../src/agent/policy/policy.ts'
import { Feed } from '../../src/backup/nbd/feed.ts'
import { handshake, listing } from '../../src/backup/nbd/handshake.ts'
import { HostletError } from '../../src/errors.ts'
import { parseConfigText } from '../../src/lib/config-file.ts'
import { FrameParser, messageTypes } from '../../src/node-libvirt/framing.ts'
import type { Procedure } from '../../src/node-libvirt/protocol/procedure.ts'
import { decodeReply } from '../../src/node-libvirt/replies.ts'
import { parseAgentMessage, parseSchedulerMessage } from '../../src/protocol/validate.ts'
import { SchedulerConfigSchema } from '../../src/scheduler/config.ts'

/** The kept inputs: each was once sent by the real thing, or found a fault. */
const directory = join(import.meta.dirname, 'corpus')

export interface Target {
  /** True when the input was taken. Throws for what must not happen. */
  run(input: Buffer): boolean | Promise<boolean>
}

export function corpusOf(name: string): Buffer[] {
  const files = readdirSync(join(directory, name)).sort()
  return files.map((file) => readFileSync(join(directory, name, file)))
}

/** Keeps an input that found a fault, so that it is tried first from now on. */
export function keep(name: string, file: string, input: Buffer): string {
  mkdirSync(join(directory, name), { recursive: true })
  const path = join(directory, name, file)
  writeFileSync(path, input)
  return path
}

/** Refused with one of these codes, or taken. Anything else is thrown on. */
async function refusedWith(codes: readonly string[], work: () => unknown): Promise<boolean> {
  try {
    await work()
    return true
  } catch (error) {
    if (error instanceof HostletError && codes.includes(error.code)) {
      assert.ok(error.message.length > 0 && error.message.length < 100_000, 'a message that people can read')
      return false
    }
    throw error
  } finally {
    assert.equal(Object.keys(Object.prototype).length, 0, 'every object has got a new key')
  }
}

const messages: Target = {
  run: async (input) => {
    const text = input.toString()
    const fromAgent = await refusedWith(['E_BAD_REQUEST'], () => parseAgentMessage(text))
    const fromScheduler = await refusedWith(['E_BAD_REQUEST'], () => parseSchedulerMessage(text))
    return fromAgent || fromScheduler
  }
}

/** Signed once with a key that is gone: what verifies says what was signed, or it does not verify. */
const jws: Target = {
  run: (input) =>
    refusedWith(['E_BAD_REQUEST', 'E_AUTH'], async () => {
      const { claims } = await verifier().verify(input.toString())
      assert.ok(signedPayloads().has(JSON.stringify(claims)), 'claims that nobody signed')
    })
}

const schemas = [AgentConfigSchema, SchedulerConfigSchema, PolicySchema]
const config: Target = {
  run: async (input) => {
    const text = input.toString()
    const taken: boolean[] = []
    for (const schema of schemas)
      taken.push(await refusedWith(['E_BAD_REQUEST'], () => parseConfigText(text, 'fuzzed.yaml', schema)))
    return taken.includes(true)
  }
}

/** Frames as libvirtd sends them; a reply is decoded as the procedure of its number wants. */
const libvirtReplies: Target = {
  run: (input) => {
    let frames = 0
    const parser = new FrameParser((frame) => {
      frames++
      const procedure = procedures().get(`${frame.program}:${frame.procedure}`)
      if (frame.type === messageTypes.reply && procedure !== undefined) decodeReply(procedure, frame)
    })
    try {
      parser.push(input)
    } catch (error) {
      assert.ok(error instanceof libvirt.ConnectionError && error.code === 'E_PROTOCOL', String(error))
      return false
    }
    return frames > 0
  }
}

const nbdErrors = [
  'E_PROTOCOL',
  'E_AUTH',
  'E_NOT_FOUND',
  'E_UNSUPPORTED',
  'E_UNAVAILABLE',
  'E_BAD_REQUEST',
  'E_CONFLICT'
]
const nbd: Target = {
  run: async (input) => {
    const wanted = { exportName: 'disk', contexts: ['base:allocation'] }
    const asked: number[] = []
    const send = (bytes: Uint8Array) => asked.push(bytes.length)
    const taken = await refusedWith(nbdErrors, () => feed(new Feed(handshake(wanted, send)), input))
    await refusedWith(nbdErrors, () => feed(new Feed(listing(send)), input))
    assert.ok(asked.length < 10_000, 'asks without an end')
    return taken
  }
}

export const targets: Readonly<Record<string, Target>> = {
  messages,
  jws,
  config,
  libvirt: libvirtReplies,
  nbd
}

function feed(parser: Feed, input: Buffer): void {
  for (let at = 0; at < input.length && !parser.ended; ) {
    const space = parser.space()
    assert.ok(space.length > 0 && space.length <= 2 ** 20, `wants ${space.length} bytes at once`)
    const taken = Math.min(space.length, input.length - at)
    space.set(input.subarray(at, at + taken))
    parser.advance(taken)
    at += taken
  }
}

let known: Map<string, Procedure> | undefined
function procedures(): Map<string, Procedure> {
  known ??= new Map(
    Object.values(libvirt as Readonly<Record<string, unknown>>)
      .filter(isProcedure)
      .map((procedure) => [`${libvirt.programs[procedure.program]}:${procedure.number}`, procedure])
  )
  return known
}

function isProcedure(value: unknown): value is Procedure {
  return (
    typeof value === 'object' &&
    value !== null &&
    'number' in value &&
    'result' in value &&
    'program' in value
  )
}

interface SignedCorpus {
  readonly kid: string
  readonly x: string
}

let cached: { verifier: CommandVerifier; payloads: ReadonlySet<string> } | undefined
function signed() {
  if (cached !== undefined) return cached
  const { kid, x }: SignedCorpus = JSON.parse(readFileSync(join(directory, 'jws-key.json'), 'utf8'))
  const commandVerifier = new CommandVerifier({
    hostId: 'host-1',
    keys: () => [{ kty: 'OKP', crv: 'Ed25519', kid, x }],
    clock: { now: () => 0 }
  })
  const payloads = corpusOf('jws').map((text) =>
    Buffer.from(text.toString().split('.')[1] ?? '', 'base64url').toString()
  )
  cached = { verifier: commandVerifier, payloads: new Set(payloads) }
  return cached
}
const verifier = () => signed().verifier
const signedPayloads = () => signed().payloads
