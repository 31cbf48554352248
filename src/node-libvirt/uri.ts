/** Reads a libvirt URI: which sockets may serve it, and the name that the server is to open. */
import { join } from 'node:path'
import { ConnectionError } from './errors.ts'

export interface Target {
  /** What CONNECT_OPEN is given: the URI without transport and without our parameters. */
  readonly name: string
  /** Sockets to try, in order. */
  readonly socketPaths: readonly string[]
}

export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly homeDirectory: string
  /** Read-only sockets let everyone in and refuse every change. */
  readonly readOnly: boolean
}

/** Daemons whose own socket serves a driver where there is no monolithic libvirtd. */
const modularSockets: Readonly<Record<string, readonly string[]>> = {
  qemu: ['virtqemud-sock'],
  test: []
}

const SYSTEM_DIRECTORY = '/run/libvirt'

/**
 * Understands `qemu:///system`, `qemu:///session`, `test:///default`, `test:///path/to/file.xml`, each with an
 * optional `+unix` and `?socket=/path`. Throws `E_BAD_REQUEST` or, for other hosts and transports, `E_UNSUPPORTED`.
 */
export function resolveUri(uri: string, surroundings: Surroundings): Target {
  const url = parse(uri)
  const [driver = '', transport = 'unix'] = url.protocol.slice(0, -1).split('+')
  const socketPath = socketParameter(uri, url)
  if (transport !== 'unix') throw unsupported(uri, `transport ${transport}`)
  if (url.host !== '') throw unsupported(uri, `host ${url.host}: only this machine can be reached`)
  if (!Object.hasOwn(modularSockets, driver)) throw unsupported(uri, `driver ${driver}`)
  if (driver === 'qemu' && url.pathname !== '/system' && url.pathname !== '/session') {
    throw badUri(uri, 'expected qemu:///system or qemu:///session')
  }
  if (driver === 'test' && url.pathname.length < 2) throw badUri(uri, 'expected test:///default or a file')
  const name = `${driver}://${url.pathname}`
  if (socketPath !== null) return { name, socketPaths: [socketPath] }
  const directory = url.pathname === '/session' ? sessionDirectory(surroundings) : SYSTEM_DIRECTORY
  const sockets = ['libvirt-sock', ...(modularSockets[driver] ?? [])]
  const suffix = surroundings.readOnly ? '-ro' : ''
  return { name, socketPaths: sockets.map((socket) => join(directory, `${socket}${suffix}`)) }
}

/** libvirt's virGetUserRuntimeDirectory. */
function sessionDirectory({ env, homeDirectory }: Surroundings): string {
  const runtime = env.XDG_RUNTIME_DIR
  if (runtime) return join(runtime, 'libvirt')
  return join(env.XDG_CACHE_HOME || join(homeDirectory, '.cache'), 'libvirt')
}

function socketParameter(uri: string, url: URL): string | null {
  for (const key of url.searchParams.keys()) {
    if (key !== 'socket') throw badUri(uri, `unknown parameter "${key}", only "socket" is understood`)
  }
  const paths = url.searchParams.getAll('socket')
  const path = paths[0]
  if (path === undefined) return null
  if (paths.length > 1 || !path.startsWith('/')) throw badUri(uri, 'socket must be one absolute path')
  return path
}

function parse(uri: string): URL {
  if (URL.canParse(uri) && !uri.includes('\0')) return new URL(uri)
  throw badUri(uri, 'expected a URI such as qemu:///system')
}

function badUri(uri: string, reason: string): ConnectionError {
  return new ConnectionError('E_BAD_REQUEST', `libvirt URI ${JSON.stringify(uri)}: ${reason}`)
}

function unsupported(uri: string, what: string): ConnectionError {
  return new ConnectionError('E_UNSUPPORTED', `libvirt URI ${JSON.stringify(uri)}: ${what} is not supported`)
}
