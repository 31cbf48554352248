// hostlet apply -f FILE: has VMs be as files want them; a second time there is nothing to do.

import { type ApplyOptions, apply } from '../apply/apply.ts'
import { applyHelp, applyOptions } from '../apply/options.ts'
import { clientCommand, examples } from '../client-command.ts'
import { yesOption } from '../confirm.ts'
import type { Define } from '../define.ts'

export const define: Define = (command, cli) => {
  yesOption(applyOptions(command)).option(
    '--dry-run',
    'change nothing: show what differs, and what the hosts would say (exits with 0, 1 or 2)'
  )
  command.addHelpText('after', applyHelp)
  examples(
    command,
    'hostlet apply -f web-1.yaml',
    'hostlet apply -f vms/ --yes',
    'hostlet vm export web-1 | sed "s/^cpus:.*/cpus: 4/" | hostlet apply -f -'
  )
  clientCommand<ApplyOptions>(command, cli, (session, { options }) => apply(session, options))
}
