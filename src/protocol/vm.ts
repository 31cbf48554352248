// What a VM is: the specification that a command carries and libvirt's metadata keeps, and how a VM's state is told.

import { type Static, Type } from '../lib/schema.ts'
import { DriftItem, driftItemsMax } from './drift.ts'
import {
  Bytes,
  Cidr,
  HostId,
  Ipv4,
  MacAddress,
  Milliseconds,
  Port,
  ProfileName,
  Sha256,
  ShortText,
  strict,
  Timestamp,
  Uuid,
  VmName
} from './names.ts'

export const imageFormats = ['qcow2', 'raw'] as const

/** Where an image comes from and what its bytes must hash to. `file:` means a file on the agent's host. */
export const ImageReference = Type.Object(
  {
    url: Type.String({
      title: 'an https:// address, or file:// and a path on the host',
      pattern: '^(https|file)://[^\\s<>"\'`{}|\\\\^]+$',
      maxLength: 2_048
    }),
    sha256: Sha256,
    format: Type.Enum([...imageFormats])
  },
  strict
)
export type ImageReference = Static<typeof ImageReference>

/** Longest user data, in UTF-8. */
export const userDataBytesMax = 65_536
/** Longest user data that is sealed for a host: 64 KiB of text, its base64url and what goes with it. */
export const sealedCharactersMax = 90_000

/** What cloud-init's NoCloud seed tells the guest. */
export const Seed = Type.Object(
  {
    hostname: Type.Optional(VmName),
    sshAuthorizedKeys: Type.Optional(
      Type.Array(
        Type.String({
          title: 'an SSH public key as in authorized_keys, one line of type, key and comment',
          pattern: '^[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\\u0000-\\u001f]*)?$',
          maxLength: 8_192
        }),
        { maxItems: 32 }
      )
    ),
    /** User data in place of what hostlet would write from the keys: a compact JWE for the host's key. See sealed-user-data.ts. */
    userData: Type.Optional(Type.String({ maxLength: sealedCharactersMax })),
    /** Vendor data that shuts the guest down to what it is asked to serve. Absent: exactly where there is no user data. */
    hardened: Type.Optional(Type.Boolean())
  },
  strict
)
export type Seed = Static<typeof Seed>

const HttpPath = Type.String({
  title: 'a path that begins with a slash, percent-encoded',
  pattern: '^/[A-Za-z0-9._~/?=&%-]*$',
  maxLength: 1_024
})

/** When a VM counts as ready: always its address; besides, a TCP port or an HTTP path that answers. */
export const Readiness = Type.Object(
  {
    tcpPort: Type.Optional(Port),
    http: Type.Optional(
      Type.Object(
        {
          port: Port,
          path: HttpPath
        },
        strict
      )
    ),
    timeoutMs: Type.Optional(Milliseconds)
  },
  strict
)
export type Readiness = Static<typeof Readiness>

export const transports = ['tcp', 'udp'] as const

/** What a VM may reach outside: nothing; web servers (TCP 80 and 443); a list; all but what no VM may reach. */
export const egressModes = ['none', 'web', 'list', 'all'] as const
/** Addresses and ports that may be reached; without ports all of the transport. */
export const EgressTarget = Type.Object(
  {
    transport: Type.Enum([...transports]),
    addresses: Type.Array(Cidr, { minItems: 1, maxItems: 64 }),
    ports: Type.Optional(Type.Array(Port, { minItems: 1, maxItems: 64 }))
  },
  strict
)
export type EgressTarget = Static<typeof EgressTarget>
/** `allow` goes with `list`, and with nothing else. */
export const Egress = Type.Object(
  {
    mode: Type.Enum([...egressModes]),
    allow: Type.Optional(Type.Array(EgressTarget, { minItems: 1, maxItems: 64 }))
  },
  strict
)
export type Egress = Static<typeof Egress>

/** A port of the host that leads to one of the VM, for everybody or for some source ranges. */
export const PortMapping = Type.Object(
  {
    transport: Type.Enum([...transports]),
    hostPort: Port,
    vmPort: Port,
    sources: Type.Optional(Type.Array(Cidr, { minItems: 1, maxItems: 64 }))
  },
  strict
)
export type PortMapping = Static<typeof PortMapping>

const BytesPerSecond = Type.Integer({ minimum: 8_192, maximum: 2 ** 40 })

/** How a VM is connected. It may be less than its profile allows, never more. */
export const VmNetwork = Type.Object(
  {
    egress: Type.Optional(Egress),
    dns: Type.Optional(Type.Boolean()),
    /** To the VM. */
    receiveBytesPerSecondMax: Type.Optional(BytesPerSecond),
    /** From the VM. */
    transmitBytesPerSecondMax: Type.Optional(BytesPerSecond),
    ports: Type.Optional(Type.Array(PortMapping, { minItems: 1, maxItems: 64 }))
  },
  strict
)
export type VmNetwork = Static<typeof VmNetwork>

/** Limits of each disk of a VM. They may be less than its profile's, never more. */
export const DiskLimits = Type.Object(
  {
    bytesPerSecondMax: Type.Optional(BytesPerSecond),
    operationsPerSecondMax: Type.Optional(Type.Integer({ minimum: 10, maximum: 10_000_000 }))
  },
  strict
)
export type DiskLimits = Static<typeof DiskLimits>

export const healthProbesMax = 16
export const healthProbeKinds = ['tcp', 'http', 'tls'] as const
/** A port of the VM at which its service's health is seen from outside; nobody looks inside. */
export const HealthProbe = Type.Object(
  {
    name: Type.String({
      title: 'a name of lowercase letters, digits and hyphens',
      pattern: '^[a-z][a-z0-9-]{0,30}$'
    }),
    kind: Type.Enum([...healthProbeKinds]),
    port: Port,
    /** For `http`; "/" when absent. */
    path: Type.Optional(HttpPath)
  },
  strict
)
export type HealthProbe = Static<typeof HealthProbe>

export const healthStates = ['healthy', 'unhealthy', 'unknown'] as const
/** What a probe has found, and since when. `unknown`: the VM does not run, or nobody has seen enough of it yet. */
export const ProbeHealth = Type.Object(
  { name: HealthProbe.properties.name, state: Type.Enum([...healthStates]), since: Timestamp },
  strict
)
export type ProbeHealth = Static<typeof ProbeHealth>

/** A VM as asked for. Everything that defines it; the host adds only placement (uid, address, volumes). */
export const VmSpecification = Type.Object(
  {
    name: VmName,
    uuid: Uuid,
    profile: ProfileName,
    image: ImageReference,
    cpus: Type.Integer({ minimum: 1, maximum: 256 }),
    /** Upper limit of CPU time, in percent of one core; absent means all of its vCPUs. */
    cpuLimitPercent: Type.Optional(Type.Integer({ minimum: 5, maximum: 25_600 })),
    memoryBytes: Type.Integer({ minimum: 64 * 1024 ** 2, maximum: 16 * 1024 ** 4, multipleOf: 1024 ** 2 }),
    rootDiskBytes: Type.Integer({ minimum: 1024 ** 2, maximum: 64 * 1024 ** 4, multipleOf: 512 }),
    dataDiskBytes: Type.Optional(
      Type.Integer({ minimum: 1024 ** 2, maximum: 64 * 1024 ** 4, multipleOf: 512 })
    ),
    seed: Type.Optional(Seed),
    ready: Type.Optional(Readiness),
    network: Type.Optional(VmNetwork),
    diskLimits: Type.Optional(DiskLimits),
    health: Type.Optional(Type.Array(HealthProbe, { minItems: 1, maxItems: healthProbesMax })),
    /** Keeps the last lines of the serial console in memory-backed storage of the host. Off unless asked for. */
    consoleLog: Type.Optional(Type.Boolean())
  },
  strict
)
export type VmSpecification = Static<typeof VmSpecification>

export const vmStates = [
  'running',
  'paused',
  'stopping',
  'stopped',
  'crashed',
  'suspended',
  'unknown'
] as const
export const VmState = Type.Enum([...vmStates])
export type VmState = (typeof vmStates)[number]

/** One VM of ours as a host sees it now. */
export const VmSummary = Type.Object(
  {
    name: VmName,
    uuid: Uuid,
    state: VmState,
    /** libvirt's reason of the state, as a word: "booted", "shutdown", "crashed". */
    reason: ShortText,
    /** True from the command that should have it running until the one that stops it. */
    wanted: Type.Enum(['running', 'stopped']),
    generation: Type.Integer({ minimum: 0 }),
    profile: ProfileName,
    cpus: Type.Integer({ minimum: 1 }),
    memoryBytes: Bytes,
    macAddress: Type.Optional(MacAddress),
    address: Type.Optional(Ipv4),
    startedAt: Type.Optional(Timestamp),
    /** It was torn down, is kept, off, until then, and erased after that. */
    retainedUntil: Type.Optional(Timestamp),
    /** One for each probe of its specification. */
    health: Type.Optional(Type.Array(ProbeHealth, { maxItems: healthProbesMax })),
    /** Where it is not as its records say; absent: nothing was found, or nobody has looked yet. */
    drift: Type.Optional(Type.Array(DriftItem, { maxItems: driftItemsMax }))
  },
  strict
)
export type VmSummary = Static<typeof VmSummary>

/**
 * Why a domain is not ours. `other`: it carries nothing of hostlet's. The rest is quarantined: it carries metadata of ours
 * that cannot be read (`unreadable`), of another pool's agent (`other-pool`), of a VM of another name (`renamed`) or UUID
 * (`copied`), or with the user, MAC or address of another VM (`duplicate`).
 */
export const foreignReasons = ['other', 'unreadable', 'other-pool', 'renamed', 'copied', 'duplicate'] as const

/** A domain that is not ours: listed, never touched, and nothing that it has is given to a VM. */
export const ForeignDomain = Type.Object(
  {
    name: Type.String({ maxLength: 1_024 }),
    uuid: Uuid,
    state: VmState,
    /** Absent from older agents. */
    reason: Type.Optional(Type.Enum([...foreignReasons])),
    /** The same in words, with what to do. */
    detail: Type.Optional(Type.String({ maxLength: 512 }))
  },
  strict
)
export type ForeignDomain = Static<typeof ForeignDomain>

const KeyPart = Type.String({ title: 'a base64url string of 32 bytes', pattern: '^[A-Za-z0-9_-]{43}$' })
/** The public half of a host's key of secrets, as a JWK; `kid` is its RFC 7638 thumbprint. */
export const SecretsKey = Type.Object(
  { kty: Type.Literal('OKP'), crv: Type.Literal('X25519'), x: KeyPart, kid: KeyPart },
  strict
)
export type SecretsKey = Static<typeof SecretsKey>

export const HostFacts = Type.Object(
  {
    hostId: HostId,
    hostname: ShortText,
    agentVersion: ShortText,
    libvirtVersion: ShortText,
    hypervisorVersion: ShortText,
    accelerator: Type.Enum(['kvm', 'tcg']),
    architecture: ShortText,
    kernel: ShortText,
    operatingSystem: ShortText,
    cpuModel: ShortText,
    cpus: Type.Integer({ minimum: 1 }),
    memoryBytes: Bytes,
    poolCapacityBytes: Bytes,
    poolAvailableBytes: Bytes,
    bootedAt: Timestamp,
    /** Secrets for this host are sealed for this key (JWE, ECDH-ES+A256KW). */
    secretsKey: Type.Optional(SecretsKey),
    /** Cores that VMs of a pinned profile can have to themselves, taken or not. From here on absent from older agents. */
    coresPinnable: Type.Optional(Type.Integer({ minimum: 0 })),
    coresFree: Type.Optional(Type.Integer({ minimum: 0 })),
    /** Memory for all VMs together: without the host's reserve and without huge pages. */
    vmMemoryBytesMax: Type.Optional(Bytes),
    /** Profiles whose VMs have cores to themselves. */
    profilesPinned: Type.Optional(Type.Array(ProfileName, { maxItems: 256 })),
    /** All of its profiles. Absent from older agents. */
    profiles: Type.Optional(Type.Array(ProfileName, { maxItems: 256 }))
  },
  strict
)
export type HostFacts = Static<typeof HostFacts>
