// Secrets stay out of logs: values under keys that name secrets are masked, and everything is bounded.

export const masked = '[masked]'
/** Longest text of one value in a log. */
export const logTextMax = 2_048
const depthMax = 6
const entriesMax = 64

/** Names of things that no log may show, compared without case, dashes and underscores. */
const secretKeys: ReadonlySet<string> = new Set([
  'token',
  'jointoken',
  'password',
  'passphrase',
  'secret',
  'secrets',
  'apikey',
  'authorization',
  'cookie',
  'jws',
  'jwe',
  'jwt',
  'privatekey',
  'keypem',
  'userdata',
  'seed',
  'certificaterequest'
])

/** A copy that is safe to log: secrets masked, depth, width and length bounded, errors as plain objects. */
export function redact(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return redactEntries(fields, depthMax)
}

function redactEntries(fields: object, depth: number): Record<string, unknown> {
  const entries = Object.entries(fields).slice(0, entriesMax)
  return Object.fromEntries(
    entries.map(([key, value]) => [key, isSecret(key) ? masked : redactValue(value, depth - 1)])
  )
}

function isSecret(key: string): boolean {
  return secretKeys.has(key.toLowerCase().replaceAll(/[-_]/g, ''))
}

function redactValue(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return bounded(value)
  if (typeof value === 'bigint') return String(value)
  if (typeof value !== 'object' || value === null) return typeof value === 'function' ? undefined : value
  if (depth <= 0) return '[deeper]'
  if (value instanceof Error) return plainError(value, depth)
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`
  if (Array.isArray(value)) return value.slice(0, entriesMax).map((item) => redactValue(item, depth - 1))
  return redactEntries(value, depth)
}

function bounded(text: string): string {
  return text.length <= logTextMax ? text : `${text.slice(0, logTextMax)}…`
}

/** Errors that carry a code were foreseen: a stack would only hide what they say. */
function plainError(error: Error & { code?: unknown; details?: unknown }, depth: number) {
  const foreseen = typeof error.code === 'string' && error.code !== 'E_INTERNAL'
  return {
    ...(typeof error.code === 'string' && { code: error.code }),
    message: bounded(error.message),
    ...(typeof error.details === 'object' && error.details !== null && hasKeys(error.details)
      ? { details: redactEntries(error.details, depth - 1) }
      : {}),
    ...(!foreseen && error.stack !== undefined && { stack: error.stack.slice(0, 4 * logTextMax) }),
    ...(error.cause !== undefined && { cause: redactValue(error.cause, depth - 1) })
  }
}

function hasKeys(value: object): boolean {
  return Object.keys(value).length > 0
}
