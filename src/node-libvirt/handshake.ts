/** Handshake: authenticates, opens the hypervisor and learns what is at the other end. */
import { ConnectionError, LibvirtError } from './errors.ts'
import {
  authList,
  authPolkit,
  connectGetLibVersion,
  connectGetType,
  connectGetVersion,
  connectOpen,
  connectSupportsFeature
} from './protocol/connect.ts'
import { connectFeature } from './protocol/constants/host.ts'
import type { Procedure } from './protocol/procedure.ts'
import type { AnyType, Infer, InferInput } from './xdr/schema.ts'

/** remote_auth_type. */
const authentication = { none: 0, sasl: 1, polkit: 2 } as const
const OPEN_READ_ONLY = 1

/** What the server said of itself when the connection was opened. */
export interface ServerFacts {
  /** The URI as the server was given it. */
  readonly uri: string
  /** The driver: `QEMU`, `Test`. */
  readonly hypervisor: string
  /** As in `7.2.22`. */
  readonly hypervisorVersion: string
  readonly libvirtVersion: string
  /** Names of `connectFeature` that the server has. */
  readonly features: ReadonlySet<FeatureName>
}

export type FeatureName = keyof typeof connectFeature

/** Makes one call of the opening, under its deadline. */
export type HandshakeCall = <A extends AnyType, R extends AnyType>(
  procedure: Procedure<A, R>,
  args: InferInput<A>
) => Promise<Infer<R>>

/** AUTH_LIST comes first: libvirtd refuses everything before it, even to root. Throws `E_AUTH`. */
export async function authenticate(call: HandshakeCall): Promise<void> {
  const { types } = await call(authList, {})
  if (types.length === 0 || types.includes(authentication.none)) return
  if (types.includes(authentication.polkit)) return askPolkit(call)
  const wanted = types.includes(authentication.sasl)
    ? 'SASL'
    : `an unknown authentication (${types.join(', ')})`
  const advice = 'Use a socket whose auth_unix_rw is "none" or "polkit" (libvirtd.conf)'
  throw new ConnectionError(
    'E_AUTH',
    `libvirtd asks for ${wanted}, which this client does not have. ${advice}`
  )
}

/**
 * Asking for feature keepalive is what makes the server send pings, so it is left out where the caller wants none:
 * a client that stops reading for half a minute would be thrown out.
 */
export async function openHypervisor(
  call: HandshakeCall,
  { uri, readOnly, keepAlive }: { uri: string; readOnly: boolean; keepAlive: boolean }
): Promise<ServerFacts> {
  await call(connectOpen, { name: uri, flags: readOnly ? OPEN_READ_ONLY : 0 })
  const names = Object.keys(connectFeature) as FeatureName[]
  const wanted = names.filter((name) => keepAlive || name !== 'keepalive')
  const [{ type }, hypervisor, libvirt, ...answers] = await Promise.all([
    call(connectGetType, {}),
    call(connectGetVersion, {}),
    call(connectGetLibVersion, {}),
    ...wanted.map((name) => call(connectSupportsFeature, { feature: connectFeature[name] }))
  ])
  return {
    uri,
    hypervisor: type,
    hypervisorVersion: versionText(hypervisor.version),
    libvirtVersion: versionText(libvirt.version),
    features: new Set(wanted.filter((_, index) => answers[index]?.supported))
  }
}

/** Polkit decides about the process at the other end of the socket; there is nothing to send but the question. */
async function askPolkit(call: HandshakeCall): Promise<void> {
  const advice = 'Add this user to the group "libvirt" and log in again, or run as root'
  const message = `polkit does not let this user manage libvirt. ${advice}`
  try {
    const { complete } = await call(authPolkit, {})
    if (complete !== 1) throw new ConnectionError('E_AUTH', message)
  } catch (cause) {
    if (!(cause instanceof LibvirtError)) throw cause
    throw new ConnectionError('E_AUTH', `${message}. libvirt says: ${cause.message}`, { cause })
  }
}

/** libvirt packs versions as major * 1,000,000 + minor * 1,000 + release. */
function versionText(version: bigint): string {
  return `${version / 1_000_000n}.${(version / 1000n) % 1000n}.${version % 1000n}`
}
