// hostlet scheduler: runs the scheduler in the foreground, as its systemd unit does.

import type { OutputLogger } from '../../lib/log-output.ts'
import { SystemdNotify } from '../../lib/systemd-notify.ts'
import type { Scheduler } from '../../scheduler/app.ts'
import type { SchedulerConfig } from '../../scheduler/config.ts'
import { examples } from '../client-command.ts'
import { loadOrExit, reloadLogLevel, runUntilSignal } from '../daemon.ts'
import type { Define } from '../define.ts'
import { answersHealth } from '../health-check.ts'

const configDefault = '/etc/hostlet/scheduler.yaml'

export const define: Define = (command, cli) => {
  command.option('--config <file>', 'configuration of the scheduler', configDefault)
  examples(command, 'hostlet scheduler --config /etc/hostlet/scheduler.yaml')
  command.addHelpText('after', help)
  command.action(async (options: { config: string }) => {
    const { loadSchedulerConfig } = await import('../../scheduler/config.ts')
    const config = loadOrExit(() => loadSchedulerConfig(options.config))
    const [{ startScheduler }, { createLogger }] = await Promise.all([
      import('../../scheduler/app.ts'),
      import('../../lib/log-output.ts')
    ])
    const log = createLogger(config.log)
    await runUntilSignal({
      start: () => startScheduler(config, { clock: cli.clock, log }),
      whileRunning: (scheduler) => watch(scheduler, config, log),
      reload: () => reloadLogLevel(() => loadSchedulerConfig(options.config), log)
    })
  })
}

const help = `
Its first start makes its CA, its signing key and an admin key (admin.key in the state directory).
SIGHUP reads the log's level anew; other changes take a restart. Status 78: bad configuration.`

/** Tells the service manager that it is up, and pings its watchdog while the scheduler answers itself over TLS. */
function watch(scheduler: Scheduler, config: SchedulerConfig, log: OutputLogger): AsyncDisposable {
  const notify = new SystemdNotify({
    onTrouble: (trouble, error) => log.warn({ trouble, error }, 'service manager')
  })
  const { signal } = new AbortController()
  const target = { address: config.listen.address, port: scheduler.port, caFile: scheduler.caFile }
  void notify.ready(`Serving at ${scheduler.url}`, signal)
  const watchdog = notify.watchdog((stop) =>
    answersHealth({ ...target, name: config.names[0] ?? 'localhost' }, stop)
  )
  return {
    [Symbol.asyncDispose]: async () => {
      watchdog[Symbol.dispose]()
      await notify.stopping('Stopping', signal)
    }
  }
}
