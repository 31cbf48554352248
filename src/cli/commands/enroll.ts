// hostlet enroll: this host joins a scheduler with a token that works once.

import type { EnrollOptions } from '../../agent/identity/enroll.ts'
import type { Identity } from '../../agent/identity/identity.ts'
import type { LocalFacts } from '../../agent/trail/local-actions.ts'
import { asHostletError, HostletError } from '../../errors.ts'
import type { Cli } from '../cli.ts'
import { examples } from '../client-command.ts'
import { loadOrExit } from '../daemon.ts'
import type { Define } from '../define.ts'
import { readJoin } from '../join-options.ts'

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
    .option(
      '--token-file <file>',
      'file with the token, which may hold address and CA too; "-" is standard input'
    )
    .option('--ca-hash <hash>', 'what the scheduler’s CA must hash to: sha256:…')
    .option('--config <file>', 'configuration of the agent', '/etc/hostlet/agent.yaml')
    .option('--force', 'replace the identity that this host has already')
    .option('--moved', 'keep the identity: this machine is the same host, installed anew')
  examples(
    command,
    'hostlet enroll --token-file /root/token   (one that "hostlet host token" printed)',
    'hostlet enroll --scheduler https://sched-1:7443 --token-file /root/token --ca-hash sha256:5f…',
    'hostlet enroll --moved   (after the state directory was put back on a new installation)',
    'hostlet init --token-file /root/token   (as root: this and all that a new host needs besides)'
  )
  command.action(async (options: Options) => {
    if (options.moved === true) return await move(options, cli)
    const { force = false } = options
    const join = readJoin(options, cli.environment.HOSTLET_TOKEN, cli.clock.now())
    const { token, caHash } = join
    const { loadAgentConfig } = await import('../../agent/config.ts')
    const { stateDirectory } = loadOrExit(() => loadAgentConfig(options.config))
    const { enroll } = await import('../../agent/identity/enroll.ts')
    const facts = { scheduler: join.urls.join(' '), caHash, force }
    const identity = await recorded(cli, { stateDirectory, facts }, () =>
      cli.interruptible((signal) =>
        firstThatAnswers(join.urls, (schedulerUrl) =>
          enroll({ schedulerUrl, token, caHash, stateDirectory, force, signal } satisfies EnrollOptions)
        )
      )
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
  const { hostId } = await recorded(cli, { stateDirectory, facts: { moved: true } }, async () =>
    moveIdentity(stateDirectory)
  )
  cli.print(
    `This machine is host ${hostId} now. Restart the agent: systemctl restart hostlet. If the other machine still runs its agent, the scheduler refuses both.`
  )
}

async function recorded<Value>(
  { environment, clock }: Cli,
  where: { readonly stateDirectory: string; readonly facts: LocalFacts },
  act: () => Promise<Value>
): Promise<Value> {
  const { recordedAction } = await import('../../agent/trail/local-actions.ts')
  return await recordedAction({ ...where, action: 'enroll', environment, now: () => clock.now() }, act)
}

/** One after another, while nothing answers there. */
async function firstThatAnswers(
  urls: readonly string[],
  ask: (url: string) => Promise<Identity>
): Promise<Identity> {
  for (const [index, url] of urls.entries())
    try {
      return await ask(url)
    } catch (error) {
      if (asHostletError(error).code !== 'E_UNAVAILABLE' || index === urls.length - 1) throw error
    }
  throw new HostletError('E_BAD_REQUEST', 'the join token names no scheduler')
}
