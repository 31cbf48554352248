// Schemas at work: unknown data in, typed data or a clear E_BAD_REQUEST out.

import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js'
import { HostletError } from '../errors.ts'
import type { Static, TSchema } from '../lib/schema.ts'
import type { AgentMessage, SchedulerMessage } from './messages.ts'
import { agentMessages, messageBytesMax, schedulerMessages } from './messages.ts'

const ajv = new Ajv2020({
  discriminator: true,
  strict: true,
  strictRequired: false,
  allowUnionTypes: true,
  allErrors: false,
  // For the titles of schemas, not for the values: those may be secrets.
  verbose: true
})

/** Compiles a schema into a check that returns the value typed, or throws E_BAD_REQUEST naming the first fault. */
export function compile<Schema extends TSchema>(
  schema: Schema,
  what: string
): (value: unknown) => Static<Schema> {
  const accepts = ajv.compile(schema)
  return (value) => {
    if (accepts(value)) return value as Static<Schema>
    throw new HostletError('E_BAD_REQUEST', `${what}: ${describeFault(accepts.errors?.[0])}`)
  }
}

/** Reads one message of an agent. Throws E_BAD_REQUEST; never anything else. */
export const parseAgentMessage = parser<AgentMessage>(agentMessages, 'message of the agent')

/** Reads one message of the scheduler. Throws E_BAD_REQUEST; never anything else. */
export const parseSchedulerMessage = parser<SchedulerMessage>(schedulerMessages, 'message of the scheduler')

function parser<Message>(schemas: readonly TSchema[], what: string): (text: string) => Message {
  // At first use: the command line needs other schemas of this file, and no messages.
  let compiled: ValidateFunction<Message> | undefined
  return (text) => {
    compiled ??= ajv.compile<Message>({
      type: 'object',
      required: ['type'],
      discriminator: { propertyName: 'type' },
      oneOf: [...schemas]
    })
    const accepts = compiled
    const value = parseJson(text, what)
    if (accepts(value)) return value
    throw new HostletError('E_BAD_REQUEST', `${what}: ${describeFault(accepts.errors?.[0])}`)
  }
}

function parseJson(text: string, what: string): unknown {
  if (text.length > messageBytesMax)
    throw new HostletError('E_BAD_REQUEST', `${what}: longer than ${messageBytesMax} bytes`)
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new HostletError('E_BAD_REQUEST', `${what}: not JSON`, { cause })
  }
}

/** One fault as a phrase: where, and what was expected. Never repeats the value, which may be a secret. */
export function describeFault(fault: ErrorObject | undefined): string {
  if (fault === undefined) return 'does not fit its schema'
  const where = fault.instancePath === '' ? '' : `${fault.instancePath.slice(1).replaceAll('/', '.')}: `
  if (fault.keyword === 'additionalProperties')
    return `${where}unknown key "${String(fault.params.additionalProperty).slice(0, 64)}"`
  if (fault.keyword === 'enum')
    return `${where}must be one of ${(fault.params.allowedValues as unknown[]).join(', ')}`
  if (fault.keyword === 'discriminator') return `${where}unknown or missing "${String(fault.params.tag)}"`
  const title: unknown = fault.parentSchema?.title
  if (fault.keyword === 'pattern' && typeof title === 'string') return `${where}must be ${title}`
  return `${where}${fault.message ?? 'does not fit its schema'}${unitsOf(fault)}`
}

const units = [
  ['TiB', 1024 ** 4],
  ['GiB', 1024 ** 3],
  ['MiB', 1024 ** 2],
  ['KiB', 1024]
] as const

/** A bound of bytes as a person writes it: ` (64 MiB)`. */
function unitsOf({ instancePath, params }: ErrorObject): string {
  const bound: unknown = params.limit ?? params.multipleOf
  if (typeof bound !== 'number' || !/Bytes\w*$/.test(instancePath)) return ''
  const unit = units.find(([, size]) => bound >= size && bound % size === 0)
  return unit === undefined ? '' : ` (${bound / unit[1]} ${unit[0]})`
}
