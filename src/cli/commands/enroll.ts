// hostlet enroll: this host joins a scheduler with a token that works once.

import { readFileSync } from 'node:fs'
import { HostletError } from '../../errors.ts'
import type { Cli } from '../cli.ts'
import { examples } from '../client-command.ts'
import { loadOrExit } from '../daemon.ts'
import type { Define } from '../define.ts'

interface Options {
  readonly scheduler?: string
  readonly token?: string
  readonly tokenFile?: string
  readonly caHash?: string
  readonly config: string
  readonly force?: boolean
  readonly moved?: boolean
}

export const define: Define = (command, cli) => {
  command
    .option('--scheduler <url>', 'address of the scheduler, https://HOST:7443')
    .option('--token <token>', 'the token (or HOSTLET_TOKEN: arguments can be seen by other users)')
    .option('--token-file <file>', 'file with the token; "-" is standard input')
    .option('--ca-hash <hash>', 'what the scheduler’s CA must hash to: sha256:…')
    .option('--config <file>', 'configuration of the agent', '/etc/hostlet/agent.yaml')
    .option('--force', 'replace the identity that this host has already')
    .option('--moved', 'keep the identity: this machine is the same host, installed anew')
  examples(
    command,
    'hostlet enroll --scheduler https://sched-1:7443 --token-file /root/token --ca-hash sha256:5f…',
    'hostlet enroll --moved   (after the state directory was put back on a new installation)',
    'hostlet host token   (on the scheduler’s side: prints the whole line)'
  )
  command.action(async (options: Options) => {
    if (options.moved === true) return await move(options, cli)
    const { scheduler: schedulerUrl, caHash, force = false } = options
    if (schedulerUrl === undefined || caHash === undefined)
      throw new HostletError(
        'E_BAD_REQUEST',
        'enrollment needs --scheduler and --ca-hash: run the line that "hostlet host token" prints.'
      )
    const token = tokenOf(options, cli.environment.HOSTLET_TOKEN)
    const { loadAgentConfig } = await import('../../agent/config.ts')
    const { stateDirectory } = loadOrExit(() => loadAgentConfig(options.config))
    const { enroll } = await import('../../agent/identity/enroll.ts')
    const { recordedAction } = await import('../../agent/trail/local-actions.ts')
    const recorded = {
      ...{ stateDirectory, action: 'enroll', facts: { scheduler: schedulerUrl, caHash, force } },
      environment: cli.environment,
      now: () => cli.clock.now()
    }
    const identity = await recordedAction(recorded, () =>
      cli.interruptible((signal) => enroll({ schedulerUrl, token, caHash, stateDirectory, force, signal }))
    )
    cli.print(`This host has joined as ${identity.hostId}. Start the agent: systemctl enable --now hostlet`)
  })
}

async function move(options: Options, cli: Cli): Promise<void> {
  if (options.token !== undefined || options.tokenFile !== undefined || options.force === true)
    throw new HostletError(
      'E_BAD_REQUEST',
      '--moved keeps the identity that is here: it takes no token and no --force.'
    )
  const { loadAgentConfig } = await import('../../agent/config.ts')
  const { stateDirectory } = loadOrExit(() => loadAgentConfig(options.config))
  const { moveIdentity } = await import('../../agent/identity/enroll.ts')
  const { hostId } = moveIdentity(stateDirectory)
  cli.print(
    `This machine is host ${hostId} now. Restart the agent: systemctl restart hostlet. If the other machine still runs its agent, the scheduler refuses both.`
  )
}

function tokenOf(options: Options, fromEnvironment: string | undefined): string {
  const text =
    options.token ?? (options.tokenFile === undefined ? fromEnvironment : readToken(options.tokenFile))
  const token = text?.trim() ?? ''
  if (token !== '') return token
  throw new HostletError(
    'E_BAD_REQUEST',
    'no host joins without a token. Make one with "hostlet host token" and give --token-file, --token or HOSTLET_TOKEN.'
  )
}

function readToken(path: string): string {
  try {
    return readFileSync(path === '-' ? 0 : path, 'utf8')
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new HostletError('E_BAD_REQUEST', `${path}: the token cannot be read (${code}).`, { cause })
  }
}
