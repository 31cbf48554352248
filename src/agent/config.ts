// The agent's configuration: its schema with every default, and the only reader of its YAML and environment.

import { type ConfigRules, loadConfigFile } from '../lib/config-file.ts'
import { type Static, type TSchema, Type } from '../lib/schema.ts'
import { AbsolutePath, Ipv4, Milliseconds, ProfileName, strict } from '../protocol/names.ts'
import { parseLoopback } from './metrics/loopback.ts'
import { defaultProfiles, ObjectName, Profile, profileFaults } from './profiles.ts'

export const agentConfigPath = '/etc/hostlet/agent.yaml'
export const logLevels = ['debug', 'info', 'warn', 'error'] as const
export const logFormats = ['auto', 'journal', 'json', 'pretty'] as const

const SchedulerUrl = Type.String({
  pattern: '^wss://[^\\s/?#]+(/[^\\s?#]*)?$',
  maxLength: 512,
  description: 'a wss:// address'
})

export const AgentConfigSchema = Type.Object(
  {
    stateDirectory: withDefault(AbsolutePath, '/var/lib/hostlet'),
    runtimeDirectory: withDefault(AbsolutePath, '/run/hostlet'),
    /** Instead of the addresses that enrollment gave. */
    schedulerUrls: Type.Optional(Type.Array(SchedulerUrl, { minItems: 1, maxItems: 16 })),
    libvirt: section({
      uri: Type.String({ default: 'qemu:///system', minLength: 1, maxLength: 512 }),
      /** The daemon's socket where it is not the one of the URI. */
      socket: Type.Optional(AbsolutePath)
    }),
    accelerator: Type.Enum(['auto', 'kvm', 'tcg'], { default: 'auto' }),
    pool: section({
      name: withDefault(ObjectName, 'hostlet'),
      path: withDefault(AbsolutePath, '/var/lib/libvirt/images/hostlet')
    }),
    /** What a VM's "profile" means on this host. */
    profiles: Type.Record(ProfileName, Profile, { ...strict, default: defaultProfiles }),
    network: section({
      /** Name of the two nftables tables, inet and bridge, that hold the rules. */
      table: withDefault(ObjectName, 'hostlet'),
      /** What VMs of profiles with dns may ask. Empty: the host's own ones that are not on loopback. */
      resolvers: Type.Array(Ipv4, { default: [], maxItems: 3 }),
      /** Ports of the host that commands may lead to VMs. */
      ports: section({
        first: Type.Integer({ default: 20_000, minimum: 1, maximum: 65_535 }),
        last: Type.Integer({ default: 29_999, minimum: 1, maximum: 65_535 })
      }),
      /** How often the rules are looked at where nothing told of a change. */
      checkIntervalMs: Type.Integer({ default: 30_000, minimum: 1_000, maximum: 3_600_000 })
    }),
    /** Numeric users, one a VM. The default range is one that systemd leaves unused. */
    vmUids: section({
      first: Type.Integer({ default: 1_900_000_000, minimum: 1_000, maximum: 2_147_000_000 }),
      count: Type.Integer({ default: 16_384, minimum: 1, maximum: 65_536 })
    }),
    /** Where the wrapped keys of disks lie. `scheduler`: nothing of them on this host, and nothing starts without it. */
    keys: Type.Enum(['host', 'scheduler'], { default: 'host' }),
    /** Encrypted disks that are kept ready in memory, so that a new VM does not wait for them; each takes 3 MiB. */
    preparedDisks: Type.Integer({ default: 4, minimum: 0, maximum: 64 }),
    /** What no VM gets: memory, and the first cores of the host, which VMs share but none has to itself. */
    reserve: section({
      memoryBytes: Type.Integer({ default: 1024 ** 3, minimum: 0, maximum: 2 ** 50 }),
      cores: Type.Integer({ default: 1, minimum: 0, maximum: 8_192 })
    }),
    images: section({
      allowFileUrls: Type.Array(AbsolutePath, { default: [], maxItems: 32 }),
      cacheBytesMax: Type.Integer({ default: 64 * 1024 ** 3, minimum: 1024 ** 2, maximum: 2 ** 50 }),
      /** PEM file of a private CA that image servers are checked against, besides the public ones. */
      ca: Type.Optional(AbsolutePath)
    }),
    operations: section({
      concurrencyMax: Type.Integer({ default: 4, minimum: 1, maximum: 64 }),
      waitingMax: Type.Integer({ default: 64, minimum: 0, maximum: 4_096 })
    }),
    backup: section({
      /** The host's own rules: repositories, recipients. Read by nobody but the agent, written by nobody but root. */
      policy: withDefault(AbsolutePath, '/etc/hostlet/policy.yaml'),
      concurrencyMax: Type.Integer({ default: 1, minimum: 1, maximum: 16 }),
      compressionLevel: Type.Integer({ default: 1, minimum: 1, maximum: 19 }),
      /** Of one backup; a command may ask for less. */
      bytesPerSecondMax: Type.Optional(Type.Integer({ minimum: 65_536, maximum: 2 ** 40 })),
      freezeMs: Type.Integer({ default: 10_000, minimum: 1_000, maximum: 60_000 }),
      scratchReserveBytes: Type.Integer({ default: 1024 ** 3, minimum: 1024 ** 2, maximum: 2 ** 50 }),
      /** Where a running backup keeps what the guest overwrites, where it is not the pool of the disks. */
      scratchPool: Type.Optional(Type.Object({ name: ObjectName, path: AbsolutePath }, strict))
    }),
    audit: section({
      /** Of the audit trail; the oldest of its files go. An entry takes about 600 bytes. */
      keepBytes: Type.Integer({ default: 1024 ** 3, minimum: 64 * 1024 ** 2, maximum: 2 ** 50 })
    }),
    /** Sessions on serial consoles, each with a grant in a signed command. The policy may forbid vm.console altogether. */
    console: section({
      sessionsMax: Type.Integer({ default: 8, minimum: 1, maximum: 64 }),
      sessionsPerVmMax: Type.Integer({ default: 4, minimum: 1, maximum: 16 }),
      /** Nothing typed, or for a watcher nothing shown; a command may ask for less. */
      idleMs: Type.Integer({ default: 900_000, minimum: 1_000, maximum: 86_400_000 }),
      longestMs: Type.Integer({ default: 28_800_000, minimum: 1_000, maximum: 86_400_000 })
    }),
    metrics: section({
      intervalMs: Type.Integer({ default: 10_000, minimum: 1_000, maximum: 3_600_000 }),
      bufferMax: Type.Integer({ default: 360, minimum: 1, maximum: 10_000 }),
      /** Where Prometheus may read them. Nobody is asked who he is there, so it is on the loopback or not at all. */
      listen: Type.Optional(Type.String({ maxLength: 64 }))
    }),
    stop: section({ graceMs: withDefault(Milliseconds, 60_000) }),
    readyTimeoutMs: withDefault(Milliseconds, 180_000),
    log: section({
      level: Type.Enum([...logLevels], { default: 'info' }),
      format: Type.Enum([...logFormats], { default: 'auto' })
    })
  },
  strict
)
export type AgentConfig = Static<typeof AgentConfigSchema>

/** What the environment may say; each of its variables wins over the file. */
export type ConfigEnvironment = Readonly<Record<string, string | undefined>>

/**
 * Reads and checks the agent's configuration. `HOSTLET_LOG_LEVEL` and `HOSTLET_LOG_FORMAT` of the environment win over
 * the file. Throws E_NOT_FOUND and E_BAD_REQUEST, as loadConfigFile does.
 */
export function loadAgentConfig(
  path: string = agentConfigPath,
  environment: ConfigEnvironment = process.env
): AgentConfig {
  const config = loadConfigFile(path, AgentConfigSchema, agentConfigFaults)
  const level = oneOf(logLevels, environment.HOSTLET_LOG_LEVEL)
  const format = oneOf(logFormats, environment.HOSTLET_LOG_FORMAT)
  return { ...config, log: { level: level ?? config.log.level, format: format ?? config.log.format } }
}

/** What no schema says. */
export const agentConfigFaults: ConfigRules<AgentConfig> = (config) => [
  ...profileFaults(config),
  ...(config.metrics.listen === undefined || parseLoopback(config.metrics.listen) !== undefined
    ? []
    : [
        {
          at: ['metrics', 'listen'],
          text: 'expected a port of the loopback such as 127.0.0.1:9177: nobody has to log in there. From other machines scrape the scheduler, or put a proxy that asks for a certificate before it'
        }
      ])
]

/** A section whose absence means all of its defaults. */
function section<Properties extends Record<string, TSchema>>(properties: Properties) {
  return Type.Object(properties, { ...strict, default: {} })
}

function withDefault<Schema extends object, Value>(schema: Schema, value: Value): Schema {
  return { ...schema, default: value }
}

function oneOf<Word extends string>(words: readonly Word[], given: string | undefined): Word | undefined {
  return words.find((word) => word === given)
}
