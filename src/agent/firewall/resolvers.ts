// The resolvers that VMs are told of: the configuration's, or else the host's own ones that can be reached from a VM.

import { readFileSync } from 'node:fs'
import { rangeOf } from './ranges.ts'

/** systemd's own file stands for the list behind its resolver on loopback. */
const files = ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf']
/** As many as a C library asks. */
const resolversMax = 3
const loopback = rangeOf('127.0.0.0/8')

export function resolversOf(
  configured: readonly string[],
  read: (path: string) => string = (path) => readFileSync(path, 'utf8')
): readonly string[] {
  if (configured.length > 0) return configured
  for (const path of files) {
    const found = namedIn(textOf(path, read))
    if (found.length > 0) return found.slice(0, resolversMax)
  }
  return []
}

function namedIn(text: string): string[] {
  return [...text.matchAll(/^\s*nameserver\s+((?:\d{1,3}\.){3}\d{1,3})\s*$/gm)]
    .map(([, address = '']) => address)
    .filter((address) => rangeOf(address).from > loopback.to || rangeOf(address).from < loopback.from)
}

function textOf(path: string, read: (path: string) => string): string {
  try {
    return read(path)
  } catch {
    return ''
  }
}
