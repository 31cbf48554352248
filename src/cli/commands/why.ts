// hostlet why: why a VM, an operation or a host is as it is, since when, and what to do.

import { asHostletError } from '../../errors.ts'
import type { Cli } from '../cli.ts'
import { examples } from '../client-command.ts'
import { connectionOptions } from '../connection.ts'
import type { Define } from '../define.ts'
import { localOptions, mayAsk } from '../local/agent-socket.ts'
import { farthest, type SourceOptions } from '../local/source.ts'
import type { Why } from '../why/facts.ts'
import { whyOfAgent } from '../why/from-agent.ts'
import { whyOfScheduler } from '../why/from-scheduler.ts'
import type { Subject } from '../why/subject.ts'
import { whyLines } from '../why/text.ts'

type Options = SourceOptions & { readonly host?: boolean }

export const define: Define = (command, cli) => {
  command
    .argument('[subject]', 'name of a VM, id of an operation, or id of a host; without one this host')
    .option('--host', 'it is a host, also where a VM has the same name')
  examples(
    command,
    'hostlet why web-1                     a VM: off, not ready, waiting for what?',
    'hostlet why 6f1c0b1e-…                an operation: who has what it waits for?',
    'hostlet why kvm-7                     a host: away, drained, with conditions?',
    'hostlet why --local                   this host, as its agent says',
    'hostlet why web-1 -o json'
  )
  command.addHelpText(
    'after',
    '\nAsks the scheduler; on a host with --local, or when the scheduler cannot be reached, the agent of the host.\nIt only looks: nothing is sent to a host, and nothing changes.'
  )
  localOptions(connectionOptions(command)).action(async (name: string | undefined, options: Options) => {
    cli.format = options.output ?? 'table'
    const subject = { name, isHost: options.host === true }
    await cli.interruptible(async (signal) => {
      const why = await ask(cli, options, subject, signal)
      cli.show(why, () => whyLines(why, cli.clock.now(), cli))
    })
  })
}

async function ask(cli: Cli, options: Options, subject: Subject, signal: AbortSignal): Promise<Why> {
  const { scheduler, agent } = await farthest(cli, options)
  if (scheduler === undefined || (subject.name === undefined && mayAsk(agent.path)))
    return await whyOfAgent(agent, subject, signal)
  using client = scheduler
  try {
    return await whyOfScheduler(client, subject, { signal, now: cli.clock.now() })
  } catch (error) {
    const { code, message } = asHostletError(error)
    const isAway = code === 'E_UNAVAILABLE' || code === 'E_TIMEOUT'
    if (signal.aborted || !isAway || !mayAsk(agent.path)) throw error
    cli.note(`${message} This is what the agent of this host says:`)
    return await whyOfAgent(agent, subject, signal)
  }
}
