// The scheduler as a whole: starts its parts in order, stops them in reverse.

import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { HostletError } from '../errors.ts'
import type { Clock } from '../lib/clock.ts'
import { KeyedLock } from '../lib/keyed-lock.ts'
import type { Logger } from '../lib/log.ts'
import { ensurePrivateDirectory, writePrivateFile } from '../lib/private-file.ts'
import { release } from '../lib/release.ts'
import { Audit } from './audit.ts'
import { Commands } from './commands.ts'
import type { SchedulerConfig } from './config.ts'
import { ConsoleSessions } from './console/sessions.ts'
import { ConsoleSockets } from './console/socket.ts'
import { Housekeeping } from './housekeeping.ts'
import { ApiKeys } from './http/api-keys.ts'
import { authenticate } from './http/authenticate.ts'
import { createOpenApi } from './http/openapi.ts'
import type { Services } from './http/route.ts'
import { routes } from './http/routes.ts'
import { SecondFactors } from './http/second-factors.ts'
import { createServer, tlsRules } from './http/server.ts'
import { Sessions } from './http/sessions.ts'
import { loadWebAssets } from './http/web-assets.ts'
import { Hub } from './hub/hub.ts'
import { FleetMetrics } from './metrics/fleet-metrics.ts'
import { SchedulerTallies } from './metrics/scheduler-tallies.ts'
import { SqliteStore } from './store/sqlite-store.ts'
import { FleetTrust } from './trust/fleet-trust.ts'

export interface SchedulerOptions {
  readonly clock: Clock
  readonly log: Logger
  /** Where systemd has put the unit's credentials. */
  readonly credentialsDirectory?: string | undefined
}

export interface Scheduler extends AsyncDisposable {
  /** `https:` address to reach it by, under the first of its names. */
  readonly url: string
  /** The port it listens on. */
  readonly port: number
  /** Pin of its authority, as `hostlet enroll --ca-hash` wants it. */
  readonly caHash: string
  readonly caFile: string
  /** Holds the first admin key; made together with it, at the first start. */
  readonly adminKeyFile: string
  stop(): Promise<void>
}

/**
 * Starts a scheduler and resolves when it serves. Throws E_UNAVAILABLE when its directory or address cannot be used,
 * E_CORRUPT when its keys or its store are damaged. When it throws, nothing is left running.
 */
export async function startScheduler(
  config: SchedulerConfig,
  { clock, log, credentialsDirectory = process.env.CREDENTIALS_DIRECTORY }: SchedulerOptions
): Promise<Scheduler> {
  await using started = new AsyncDisposableStack()
  const directory = config.stateDirectory
  ensurePrivateDirectory(directory)
  const store = new SqliteStore(directory, config)
  started.defer(() => store.close())
  const trust = await FleetTrust.open({
    ...{ directory, credentialsDirectory, store, clock, log },
    trustDomain: config.trustDomain,
    ...config.certificates
  })
  const keys = new ApiKeys({ store: store.keys, clock })
  const issuer = `hostlet ${config.names[0] ?? config.trustDomain}`
  const factors = new SecondFactors({ store: store.secondFactors, clock, issuer })
  const sessions = new Sessions({ store, keys, clock, people: config.people })
  const adminKeyFile = join(directory, 'admin.key')
  await makeFirstKey({ keys, store, path: adminKeyFile, log })

  const audit = started.use(
    new Audit({
      ...{ store: store.audit, clock, log, reads: config.audit.reads },
      signReceipt: (claims) => trust.signReceipt(claims)
    })
  )
  const hub = new Hub({
    ...{ store, clock, log, witness: audit },
    schedulerVersion: release,
    ...config.agents,
    trustDomain: config.trustDomain,
    trust,
    frames: {
      take: (host, bytes) => consoles.fromAgent(host, bytes),
      gone: (host) => consoles.hostGone(host)
    }
  })
  const consoles = new ConsoleSessions({
    ...{ clock, log, witness: audit, agents: hub },
    findCommand: (id) => store.commands.find(id)
  })
  started.use(store.commands.onEnd((end) => consoles.commandEnded(end)))
  const sockets = new ConsoleSockets({
    ...{ sessions: consoles, audit, clock, log, tier: config.console.tier },
    identify: (asking) => authenticate(asking, { keys, sessions })
  })
  const commands = new Commands({
    ...{ store, clock, log, signer: trust, delivery: hub },
    expireAfterMs: config.commands.expireAfterMs
  })
  const stopping = new AbortController()
  let port = config.listen.port
  const tallies = new SchedulerTallies()
  started.use(
    store.commands.onEnd(({ verb, outcome, createdAt, endedAt }) =>
      tallies.operationEnded(verb, outcome, (endedAt - createdAt) / 1_000)
    )
  )
  let tls = await trust.tls(namesOf(config))
  const metrics = new FleetMetrics({
    ...{ store: store.fleet, clock, tallies, version: release },
    metricsIntervalMs: config.agents.metricsIntervalMs,
    expiries: () => ({ authority: expiryOf(trust.authority.certificatePem), server: expiryOf(tls.cert) })
  })
  const services: Services = {
    placing: new KeyedLock(),
    ...{ config, store, commands, keys, sessions, factors, clock, log, audit, trust, agents: hub },
    ...{ metrics, tallies, consoles },
    get authority() {
      return trust.authority
    },
    version: release,
    startedAt: clock.now(),
    addresses: () => config.advertise ?? [addressOf(config.names[0] ?? 'localhost', port)],
    openApi: once(() => createOpenApi(routes, release))
  }
  const server = createServer({
    services,
    routes,
    tls,
    stopping: stopping.signal,
    web: once(() => loadWebAssets())
  })
  started.defer(async () => server.close())
  const useTls = async () => {
    tls = await trust.tls(namesOf(config))
    setTls(server.server, tls)
  }
  hub.attach(server.server, sockets)
  hub.watch()
  started.defer(() => hub.close())
  started.defer(() => sockets.close())
  port = await listen(server, config.listen)
  started.use(
    new Housekeeping({
      ...{ store, clock, log },
      abandonAfterMs: config.commands.abandonAfterMs,
      keyWarningMs: config.people.keyWarningMs,
      renewCertificate: useTls
    })
  )
  trust.onChange(useTls)
  trust.onChange(() => hub.tellTrust())
  started.defer(async () =>
    stopping.abort(new HostletError('E_UNAVAILABLE', 'the scheduler is stopping. Ask again in a moment.'))
  )
  log.info({ address: config.listen.address, port, caHash: trust.authority.caHash }, 'scheduler started')

  const parts = started.move()
  const stop = async () => {
    if (parts.disposed) return
    log.info({}, 'scheduler stopping')
    await parts.disposeAsync()
    log.info({}, 'scheduler stopped')
  }
  return {
    url: services.addresses()[0] ?? '',
    port,
    get caHash() {
      return trust.authority.caHash
    },
    caFile: join(directory, 'ca.pem'),
    adminKeyFile,
    stop,
    [Symbol.asyncDispose]: stop
  }
}

/** In milliseconds since the epoch. */
function expiryOf(pem: string): number {
  return new X509Certificate(pem).validToDate.getTime()
}

/** Made when it is first asked for: anybody may ask, and it never changes. */
function once<Value>(make: () => Value): () => Value {
  let made: { readonly value: Value } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

/** What the certificate names: the configured names, and the hosts of the advertised addresses. */
function namesOf({ names, advertise = [] }: SchedulerConfig): string[] {
  const advertised = advertise.map((url) => new URL(url).hostname.replace(/^\[(.*)\]$/, '$1'))
  return [...new Set([...names, ...advertised])]
}

/** Somebody must be able to make the other keys. */
async function makeFirstKey(first: {
  keys: ApiKeys
  store: SqliteStore
  path: string
  log: Logger
}): Promise<void> {
  const { keys, store, path, log } = first
  if ((await store.keys.count()) > 0) return
  const { text, record } = await keys.create({ tier: 'admin', note: 'made at the first start' })
  try {
    writePrivateFile(path, `${text}\n`)
  } catch (error) {
    // A key that nobody knows must not keep the next start from making another.
    await store.keys.forget(record.id)
    throw error
  }
  log.info({ file: path }, 'first admin key written')
}

async function listen(
  server: ReturnType<typeof createServer>,
  { address, port }: SchedulerConfig['listen']
): Promise<number> {
  try {
    await server.listen({ host: address, port })
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new HostletError(
      'E_UNAVAILABLE',
      `the scheduler cannot listen on ${addressOf(address, port)} (${why}). Free the port or change "listen" in its configuration.`,
      { cause }
    )
  }
  const bound = server.server.address()
  return typeof bound === 'object' && bound !== null ? bound.port : port
}

function addressOf(name: string, port: number): string {
  return `https://${isIP(name) === 6 ? `[${name}]` : name}:${port}`
}

function setTls(server: object, tls: { key: string; cert: string; ca: string }): void {
  if ('setSecureContext' in server && typeof server.setSecureContext === 'function')
    server.setSecureContext({ ...tls, ...tlsRules })
}
