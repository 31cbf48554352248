// hostlet scheduler: runs the scheduler in the foreground, as its systemd unit does.

import { examples } from '../client-command.ts'
import type { Define } from '../commands.ts'
import { loadOrExit, runUntilSignal } from '../daemon.ts'

const configDefault = '/etc/hostlet/scheduler.yaml'

export const define: Define = (command, cli) => {
  command.option('--config <file>', 'configuration of the scheduler', configDefault)
  examples(command, 'hostlet scheduler --config /etc/hostlet/scheduler.yaml')
  command.addHelpText(
    'after',
    '\nIts first start makes its CA, its signing key and an admin key (admin.key in the state directory). Status 78: bad configuration.'
  )
  command.action(async (options: { config: string }) => {
    const { loadSchedulerConfig } = await import('../../scheduler/config.ts')
    const config = loadOrExit(() => loadSchedulerConfig(options.config))
    const [{ startScheduler }, { createLogger }] = await Promise.all([
      import('../../scheduler/app.ts'),
      import('../../lib/log-output.ts')
    ])
    const log = createLogger(config.log)
    await runUntilSignal(() => startScheduler(config, { clock: cli.clock, log }))
  })
}
