// hostlet top: what hosts and VMs use now; drawn again on a terminal, once elsewhere.

import { asHostletError } from '../../errors.ts'
import type { LatestMetrics } from '../../protocol/api.ts'
import { Interrupted } from '../cli.ts'
import { clientCommand, examples, type Session } from '../client-command.ts'
import type { Define } from '../define.ts'
import { LiveBlock } from '../live-block.ts'
import { formatTime, parseDuration } from '../quantities.ts'
import { cut, plain } from '../table.ts'
import { renderTop } from '../top-view.ts'

interface Options {
  readonly once?: boolean
  readonly interval: string
}

const intervalMsMin = 500

export const define: Define = (command, cli) => {
  command
    .option('--once', 'print once and end, as it does without a terminal')
    .option('--interval <duration>', 'how often to draw', '2s')
  examples(command, 'hostlet top', 'hostlet top --once', 'hostlet top --once -o json')
  clientCommand<Options>(command, cli, async (session, { options }) => {
    const intervalMs = Math.max(intervalMsMin, parseDuration(options.interval))
    if (cli.terminal && !options.once && cli.format === 'table') return await live(session, intervalMs)
    const latest = await ask(session)
    cli.show(latest, () => renderTop(latest, { width: cli.width, colour: cli.colour }))
  })
}

async function ask({ client, signal }: Session): Promise<LatestMetrics> {
  return await client.ask({ method: 'GET', path: '/v1/metrics/latest', signal }, 'LatestMetrics')
}

/** Goes on while the scheduler is away, showing the last figures, and says so; ends with Ctrl-C, which is no failure. */
async function live(session: Session, intervalMs: number): Promise<void> {
  const { cli, signal } = session
  const block = new LiveBlock((text) => cli.write(text))
  let latest = await ask(session)
  let trouble = ''
  try {
    for (;;) {
      const table = renderTop(latest, { width: (cli.width ?? 80) - 1, colour: cli.colour })
      const foot = trouble === '' ? 'Ctrl-C ends' : `as of ${formatTime(latest.now)}: ${trouble}`
      block.draw([...table, '', cut(plain(foot), (cli.width ?? 80) - 1)], cli.rows - 1)
      await cli.clock.sleep(intervalMs, signal)
      try {
        latest = await ask(session)
        trouble = ''
      } catch (error) {
        if (signal.aborted) throw error
        trouble = asHostletError(error).message
      }
    }
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error
  }
}
