// hostlet login: opens a session with an API key, and the code of its second factor, for the commands that follow.

import { HostletError } from '../../errors.ts'
import type { OpenedSession } from '../../protocol/api.ts'
import { ApiClient } from '../api-client.ts'
import type { Cli } from '../cli.ts'
import { examples } from '../client-command.ts'
import { type ConnectionOptions, connectionOptions, findScheduler } from '../connection.ts'
import type { Define } from '../define.ts'
import { apiKeyOf } from '../given-names.ts'
import { formatTime } from '../quantities.ts'
import { SecretInput } from '../secret-input.ts'
import { keyHashOf, sessionFilePath, writeSession } from '../session-file.ts'
import { describeWho } from '../who-text.ts'

interface Options extends ConnectionOptions {
  readonly remember?: boolean
}

export const define: Define = (command, cli) => {
  command.option('--remember', 'for longer than a day’s work: as long as the scheduler allows')
  examples(
    command,
    'hostlet login                                    asks for the key, and for a code where the key has a second factor',
    'hostlet login --api-key-file ~/ada.key'
  )
  command.addHelpText(
    'after',
    '\nWithout a terminal the key and the code are read from the standard input, a line each.'
  )
  connectionOptions(command).action(async (options: Options) => {
    cli.format = options.output ?? 'table'
    await cli.interruptible((signal) => signIn(cli, options, signal))
  })
}

async function signIn(cli: Cli, options: Options, signal: AbortSignal): Promise<void> {
  const place = await findScheduler(cli, options)
  const input = new SecretInput(cli)
  const key = place.key ?? apiKeyOf(await input.ask('API key: ', signal))
  // No key goes along in the header: it is in the body, and a second factor would have it refused.
  using client = new ApiClient({ ...place, apiKey: undefined })
  const body = { key, token: true, ...(options.remember && { remember: true }) }
  const open = (code?: string) =>
    client.ask(
      { method: 'POST', path: '/v1/session', body: { ...body, ...(code && { code }) }, signal },
      'OpenedSession'
    )
  let opened: OpenedSession
  try {
    opened = await open()
  } catch (error) {
    if (!(error instanceof HostletError) || error.details.reason !== 'code-needed') throw error
    opened = await open(await input.ask('Code of the second factor, or a recovery code: ', signal))
  }
  keep(cli, opened, place.url.origin, key)
  const { token: _, ...session } = opened
  cli.show(session, () => describeWho(session, cli.colour))
}

function keep(cli: Cli, opened: OpenedSession, scheduler: string, key: string): void {
  const { token, expiresAt, recoveryCodesLeft, refusedFrom } = opened
  if (token === undefined || expiresAt === undefined)
    throw new HostletError(
      'E_PROTOCOL',
      'the scheduler opened a session without a token. Compare the versions.'
    )
  writeSession(sessionFilePath(cli.environment), { scheduler, token, keyHash: keyHashOf(key), expiresAt })
  if (refusedFrom !== undefined) cli.note(factorFirst(refusedFrom))
  cli.note(`Signed in at ${scheduler} until ${formatTime(expiresAt)}.`)
  if (recoveryCodesLeft !== undefined)
    cli.note(
      `${recoveryCodesLeft} recovery codes are left. New ones: hostlet key second-factor --recovery-codes`
    )
}

/** Before the session is told of, which is good for little until then. */
function factorFirst(tier: string): string {
  const refused = tier === 'read' ? 'everything' : `what needs tier ${tier} or more`
  return `Set up a second factor first, and sign in anew then: hostlet key second-factor. Until then ${refused} is refused.`
}
