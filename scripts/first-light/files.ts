// The files that first light writes: both configurations, the policy of backups, and what another shell needs to command them.

import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { stringify } from 'yaml'
import type { Settings } from './settings.ts'

/** Short, so that figures and their rates appear at once. */
const metricsIntervalMs = 2_000

export function schedulerConfig(settings: Settings, port: number): string {
  return stringify({
    stateDirectory: settings.schedulerState,
    listen: { address: '127.0.0.1', port },
    names: ['127.0.0.1', 'localhost'],
    agents: { heartbeatIntervalMs: 5_000, metricsIntervalMs },
    log: { format: 'json' }
  })
}

export function agentConfig(settings: Settings, subnet: string): string {
  const { network, bridge } = settings
  return stringify({
    stateDirectory: settings.agentState,
    runtimeDirectory: settings.runtimeDirectory,
    pool: { name: settings.pool, path: settings.poolDirectory },
    profiles: { starter: { network, bridge, subnet } },
    network: { table: network },
    backup: { policy: settings.policy },
    images: { allowFileUrls: [dirname(settings.image)] },
    metrics: { intervalMs: metricsIntervalMs },
    log: { level: 'debug', format: 'json' }
  })
}

/** The name by which commands know the repository. */
export const repositoryName = 'local'

/** Where backups may go and who can open them: of this machine's root, and in no command. */
export function policy(settings: Settings): string {
  return stringify({
    repositories: { [repositoryName]: { url: pathToFileURL(settings.repository).href } },
    recovery: [{ file: `${settings.recoveryKey}.pub` }]
  })
}

/** For `. FILE` in a POSIX shell: where the scheduler is, and `hostlet` as a command. */
export function envFile(settings: Settings, url: string): string {
  const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`
  return [
    `export HOSTLET_SCHEDULER=${quoted(url)}`,
    `export HOSTLET_API_KEY_FILE=${quoted(join(settings.schedulerState, 'admin.key'))}`,
    `export HOSTLET_CA_FILE=${quoted(join(settings.schedulerState, 'ca.pem'))}`,
    `hostlet() { ${quoted(settings.node)} ${quoted(settings.main)} "$@"; }`,
    ''
  ].join('\n')
}
