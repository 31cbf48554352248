// hostlet agent: runs the agent of this host in the foreground, as its systemd unit does.

import { examples } from '../client-command.ts'
import { loadOrExit, reloadLogLevel, runUntilSignal } from '../daemon.ts'
import type { Define } from '../define.ts'

const configDefault = '/etc/hostlet/agent.yaml'

export const define: Define = (command, cli) => {
  command.option('--config <file>', 'configuration of the agent', configDefault)
  examples(command, 'hostlet agent --config /etc/hostlet/agent.yaml')
  command.addHelpText(
    'after',
    '\nBefore its first start the host joins with "hostlet enroll". Status 78: bad configuration.'
  )
  command.action(async (options: { config: string }) => {
    const { loadAgentConfig } = await import('../../agent/config.ts')
    const config = loadOrExit(() => loadAgentConfig(options.config))
    const [{ startAgent }, { createLogger }] = await Promise.all([
      import('../../agent/app.ts'),
      import('../../lib/log-output.ts')
    ])
    const log = createLogger(config.log)
    await runUntilSignal({
      start: () => startAgent(config, { clock: cli.clock, log }),
      reload: () => reloadLogLevel(() => loadAgentConfig(options.config), log)
    })
  })
}
