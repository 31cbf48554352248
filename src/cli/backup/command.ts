// Commands on backups that go two ways: through the scheduler, or with --repository straight to where the backups lie.

import type { Command } from 'commander'
import { ApiClient } from '../api-client.ts'
import type { Cli } from '../cli.ts'
import type { Argument, Given, Session } from '../client-command.ts'
import { type ConnectionOptions, connectionOptions, findConnection } from '../connection.ts'
import {
  checkRepositoryOptions,
  Repository,
  type RepositoryOptions,
  repositoryOptions
} from './repository.ts'

export interface Direct {
  readonly cli: Cli
  readonly repository: Repository
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal
}

export interface Ways<Options, Arguments extends readonly Argument[]> {
  readonly scheduler: (session: Session, given: Given<Options, Arguments>) => Promise<void>
  readonly repository: (direct: Direct, given: Given<Options, Arguments>) => Promise<void>
  /** Ahead of both, for what can be refused at once. */
  readonly check?: (given: Given<Options & RepositoryOptions, Arguments>) => void
}

export function backupCommand<Options, Arguments extends readonly Argument[] = readonly string[]>(
  command: Command,
  cli: Cli,
  ways: Ways<Options, Arguments>
): Command {
  return connectionOptions(repositoryOptions(command)).action(async (...all: unknown[]) => {
    const options = all.at(-2) as Options & ConnectionOptions & RepositoryOptions
    const given = { options, arguments: all.slice(0, -2) as unknown as Arguments }
    cli.format = options.output ?? 'table'
    checkRepositoryOptions(options)
    ways.check?.(given)
    if (options.repository !== undefined)
      return cli.interruptible(async (signal) => {
        await using repository = await Repository.open(cli, options, signal)
        await ways.repository({ cli, repository, signal }, given)
      })
    using client = new ApiClient(await findConnection(cli, options))
    await cli.interruptible((signal) => ways.scheduler({ cli, client, signal }, given))
  })
}
