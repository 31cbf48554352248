// Which page a path means. Nothing here knows a browser.

export const pages = [
  'overview',
  'hosts',
  'host',
  'vms',
  'vm',
  'console',
  'operations',
  'operation',
  'backups',
  'conditions',
  'audit'
] as const
export type Page = (typeof pages)[number]

const paths: Readonly<Record<Page, string>> = {
  overview: '/',
  hosts: '/hosts',
  host: '/hosts/:',
  vms: '/vms',
  vm: '/vms/:',
  console: '/vms/:/console',
  operations: '/operations',
  operation: '/operations/:',
  backups: '/backups',
  conditions: '/conditions',
  audit: '/audit'
}

export interface Place {
  readonly page: Page
  /** What the path names, on pages about one thing. */
  readonly name: string
}

/** Undefined for a path that is no page of ours. */
export function placeOf(path: string): Place | undefined {
  const [first = '', second, ...more] = path.replace(/^\/|\/$/g, '').split('/')
  const pattern = ['', first, ...(second === undefined ? [] : [':']), ...more].join('/')
  const page = pages.find((candidate) => paths[candidate] === pattern)
  const name = decoded(second ?? '')
  return page === undefined || name === undefined ? undefined : { page, name }
}

/** The link to a page. */
export function pathTo(page: Page, name = ''): string {
  return paths[page].replace(':', encodeURIComponent(name))
}

/** Without what is empty. */
export function withQuery(
  path: string,
  fields: Readonly<Record<string, string | number | boolean | undefined>>
): string {
  const query = new URLSearchParams()
  for (const [key, value] of Object.entries(fields))
    if (value !== undefined && value !== '') query.set(key, String(value))
  const text = query.toString()
  return text === '' ? path : `${path}?${text}`
}

function decoded(part: string): string | undefined {
  try {
    return decodeURIComponent(part)
  } catch {
    return undefined
  }
}
