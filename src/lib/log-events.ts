// Ids of log lines: made of their constant messages, so that each line has one and no table has to be kept beside the code.

/** Messages are constant; this bounds what a mistake could cost. */
const knownMax = 2_048
const known = new Map<string, string>()

/**
 * `command refused` is `command-refused`; of a longer sentence what stands before the first colon, comma or bracket counts,
 * without its article. docs/logs.md lists them all, and a test holds it to the code.
 */
export function eventId(message: string): string {
  const found = known.get(message)
  if (found !== undefined) return found
  const id = madeOf(message)
  if (known.size < knownMax) known.set(message, id)
  return id
}

function madeOf(message: string): string {
  const [head = ''] = message.split(/[:,(]/)
  return head
    .trim()
    .toLowerCase()
    .replace(/^(the|an?) /, '')
    .replaceAll(/['’]s\b/g, '')
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-+|-+$/g, '')
}
