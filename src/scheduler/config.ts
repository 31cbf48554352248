// The scheduler's configuration: its schema with every default, and the only reader of its YAML.

import { hostname } from 'node:os'
import { type ConfigRules, loadConfigFile } from '../lib/config-file.ts'
import { type Static, type TProperties, Type } from '../lib/schema.ts'
import { retainDaysMax } from '../protocol/lifecycle.ts'
import { Port, strict } from '../protocol/names.ts'
import { scores } from './placement/scores.ts'

export const schedulerConfigPath = '/etc/hostlet/scheduler.yaml'

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const dayMs = 86_400_000
const yearMs = 365 * dayMs

const AbsolutePath = Type.String({
  pattern: '^/[^\\u0000]*$',
  maxLength: 1_024,
  default: '/var/lib/hostlet-scheduler',
  description: 'an absolute path'
})
const networkName =
  '^([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*|[0-9a-fA-F:]{2,45})$'
const NetworkName = Type.String({
  pattern: networkName,
  maxLength: 253,
  description: 'a DNS name or an IP address'
})
const Address = Type.String({
  pattern: '^[0-9a-fA-F.:]{2,45}$',
  default: '0.0.0.0',
  description: 'an IP address to listen on'
})
const SchedulerUrl = Type.String({
  pattern: '^https://[^\\s/?#@]+$',
  maxLength: 512,
  description: 'an address such as https://sched-1.example.org:7443'
})
const TrustDomain = Type.String({
  pattern: '^[a-z0-9]([a-z0-9.-]{0,253}[a-z0-9])?$',
  default: 'hostlet.internal',
  description: 'a name of small letters, digits, dots and dashes'
})

export const SchedulerConfigSchema = Type.Object(
  {
    stateDirectory: AbsolutePath,
    listen: section({
      address: Address,
      /** 0 takes any free port. */
      port: Type.Union([Port, Type.Literal(0)], { default: 7443, description: 'a port, 1 to 65535' })
    }),
    /** Names and addresses by which hosts and people reach this scheduler: they stand in its certificate. */
    names: Type.Array(NetworkName, {
      minItems: 1,
      maxItems: 32,
      uniqueItems: true,
      default: defaultNames()
    }),
    /** Addresses that hosts are told, best first. Without them: the first of `names` with the port. */
    advertise: Type.Optional(Type.Array(SchedulerUrl, { minItems: 1, maxItems: 16 })),
    trustDomain: TrustDomain,
    certificates: section({
      hostMs: duration(7 * dayMs, minuteMs, yearMs),
      /** How long after its time a host's last certificate may still be renewed, and nothing else; 0 for not at all. */
      renewalGraceMs: duration(30 * dayMs, 0, yearMs),
      serverMs: duration(90 * dayMs, minuteMs, 2 * yearMs),
      authorityMs: duration(10 * yearMs, dayMs, 30 * yearMs)
    }),
    agents: section({
      heartbeatIntervalMs: duration(10_000, 100, 10 * minuteMs),
      metricsIntervalMs: duration(10_000, 1_000, 60 * minuteMs)
    }),
    commands: section({
      /** How long a command waits for its host before it expires. */
      expireAfterMs: duration(60 * minuteMs, 1_000, 7 * dayMs),
      /** How long a host may stay silent about a command that it took. */
      abandonAfterMs: duration(dayMs, minuteMs, 30 * dayMs),
      ...bounds({ keepMs: 30 * dayMs, rowsMax: 100_000 })
    }),
    metrics: section(bounds({ keepMs: dayMs, rowsMax: 2_000_000 })),
    events: section(bounds({ keepMs: 30 * dayMs, rowsMax: 200_000 })),
    vms: section({
      /** How long a VM that is removed is kept, off, where its asker does not say; 0: it is erased at once. */
      retainDays: Type.Integer({ default: 30, minimum: 0, maximum: retainDaysMax })
    }),
    /** Sessions of people, and what is asked of them. */
    people: section({
      sessionMs: duration(12 * hourMs, minuteMs, 30 * dayMs),
      /** A browser's session ends when nobody did anything for so long; what a page asks by itself does not count. */
      idleMs: duration(hourMs, minuteMs, 30 * dayMs),
      /** How long a session lasts that is to be remembered; 0 for as long as any other. */
      rememberMs: duration(7 * dayMs, 0, 90 * dayMs),
      /** Calls from this tier on need a second factor, but for keys of machines. */
      requireSecondFactor: Type.Enum(['none', 'admin', 'manage', 'read'], { default: 'none' }),
      /** How long before its end a key is warned of. */
      keyWarningMs: duration(14 * dayMs, 0, yearMs)
    }),
    /** Serial consoles of VMs. */
    console: section({
      /** Tier that a key needs to ask for one. */
      tier: Type.Enum(['manage', 'admin'], { default: 'admin' })
    }),
    /** Calls of the API. */
    audit: section({
      /** Also those that only look. */
      reads: Type.Boolean({ default: false }),
      ...bounds({ keepMs: yearMs, rowsMax: 1_000_000 })
    }),
    /** How a host is chosen for a VM that names none. */
    placement: section({
      /** Bytes of disks, as guests see them, for each byte of a host's pool. */
      diskOvercommit: Type.Number({ default: 4, minimum: 1, maximum: 64 }),
      /** Share of a pool that no new VM counts on. */
      diskReserveRatio: Type.Number({ default: 0.05, minimum: 0, maximum: 0.9 }),
      /** Of each score; 0 leaves it out. */
      weights: section(
        Object.fromEntries(
          scores.map(({ id, weight }) => [id, Type.Number({ default: weight, minimum: 0, maximum: 1_000 })])
        ) as Record<string, ReturnType<typeof Type.Number>>
      )
    }),
    log: section({
      level: Type.Enum(['debug', 'info', 'warn', 'error'], { default: 'info' }),
      format: Type.Enum(['auto', 'journal', 'json', 'pretty'], { default: 'auto' })
    })
  },
  strict
)
export type SchedulerConfig = Static<typeof SchedulerConfigSchema>

/** Reads and checks the configuration. Throws E_NOT_FOUND and E_BAD_REQUEST, as loadConfigFile does. */
export function loadSchedulerConfig(path: string = schedulerConfigPath): SchedulerConfig {
  return loadConfigFile(path, SchedulerConfigSchema, lifetimeFaults)
}

const lifetimeFaults: ConfigRules<SchedulerConfig> = ({ certificates }) =>
  certificates.serverMs > certificates.authorityMs || certificates.hostMs > certificates.authorityMs
    ? [
        {
          at: ['certificates', 'authorityMs'],
          text: 'expected a life of the authority that is longer than that of what it signs'
        }
      ]
    : []

/** This machine's name where it can stand in a certificate, and the ways to reach it from itself. */
function defaultNames(): string[] {
  const names = new Set([hostname(), 'localhost', '127.0.0.1'])
  return [...names].filter((name) => new RegExp(networkName, 'u').test(name))
}

function duration(defaultMs: number, minimum: number, maximum: number) {
  return Type.Integer({ default: defaultMs, minimum, maximum })
}

function bounds(defaults: { keepMs: number; rowsMax: number }) {
  return {
    keepMs: duration(defaults.keepMs, minuteMs, 10 * yearMs),
    rowsMax: Type.Integer({ default: defaults.rowsMax, minimum: 100, maximum: 1_000_000_000 })
  }
}

/** A section whose absence means all of its defaults. */
function section<Properties extends TProperties>(properties: Properties) {
  return Type.Object(properties, { ...strict, default: {} })
}
