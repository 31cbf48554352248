// hostlet key rescue: makes an admin key in the store of the scheduler on this machine, for when nobody gets in any more.

import { userInfo } from 'node:os'
import { type OutputFormat, outputOption } from '../cli.ts'
import { examples } from '../client-command.ts'
import { tellCreatedKey } from '../created-key.ts'
import { loadOrExit } from '../daemon.ts'
import type { Define } from '../define.ts'

export const define: Define = (command, cli) => {
  command
    .option('--config <file>', 'configuration of the scheduler', '/etc/hostlet/scheduler.yaml')
    .addOption(outputOption(command))
  examples(command, 'hostlet key rescue > rescue.key')
  command.addHelpText(
    'after',
    '\nAs the user that the scheduler runs as, whether it runs or not. The key is good for an hour, needs no second factor, and stands in the audit.'
  )
  command.action(async (options: { config: string; output: OutputFormat }) => {
    cli.format = options.output
    const [{ loadSchedulerConfig }, { makeRescueKey }, { keyView }] = await Promise.all([
      import('../../scheduler/config.ts'),
      import('../../scheduler/rescue.ts'),
      import('../../scheduler/views/key-view.ts')
    ])
    const config = loadOrExit(() => loadSchedulerConfig(options.config))
    const who = { by: cli.environment.SUDO_USER ?? userInfo().username, uid: process.getuid?.() }
    const { record, text } = await makeRescueKey(config, { clock: cli.clock, ...who })
    tellCreatedKey(cli, { key: keyView(record), text })
  })
}
