// hostlet logout: ends the session at the scheduler, and forgets it here.

import { HostletError } from '../../errors.ts'
import { ApiClient } from '../api-client.ts'
import type { Cli } from '../cli.ts'
import { examples } from '../client-command.ts'
import { type ConnectionOptions, connectionOptions, findScheduler } from '../connection.ts'
import type { Define } from '../define.ts'
import { readSession, removeSession, sessionFilePath } from '../session-file.ts'

export const define: Define = (command, cli) => {
  examples(command, 'hostlet logout')
  connectionOptions(command).action(async (options: ConnectionOptions) => {
    cli.format = options.output ?? 'table'
    await cli.interruptible((signal) => signOut(cli, options, signal))
  })
}

async function signOut(cli: Cli, options: ConnectionOptions, signal: AbortSignal): Promise<void> {
  const path = sessionFilePath(cli.environment)
  const session = readSession(path)
  if (session === undefined) {
    cli.show({ signedOut: false }, () => ['You are not signed in.'])
    return
  }
  // First, so that a scheduler out of reach leaves nothing behind here.
  removeSession(path)
  const place = await findScheduler(cli, { ...options, scheduler: session.scheduler })
  using client = new ApiClient({ ...place, apiKey: session.token })
  try {
    await client.ask({ method: 'DELETE', path: '/v1/session', signal }, 'Removed')
  } catch (error) {
    if (!(error instanceof HostletError)) throw error
    if (error.code !== 'E_AUTH')
      throw new HostletError(
        error.code,
        `the session is forgotten here, but could not be ended at ${session.scheduler}, where it ends by itself: ${error.message}`,
        { cause: error }
      )
  }
  cli.show({ signedOut: true }, () => [`Signed out at ${session.scheduler}.`])
}
