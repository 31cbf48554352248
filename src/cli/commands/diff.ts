// hostlet diff -f FILE: what apply would do, and what the hosts would say to it; changes nothing.

import { type ApplyOptions, apply } from '../apply/apply.ts'
import { applyHelp, applyOptions } from '../apply/options.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'

export const define: Define = (command, cli) => {
  applyOptions(command)
  command.addHelpText(
    'after',
    `${applyHelp}\nExits with 0 where nothing differs, 2 where something does, 1 on failure.`
  )
  examples(command, 'hostlet diff -f web-1.yaml', 'hostlet diff -f vms/ -o json')
  clientCommand<ApplyOptions>(command, cli, (session, { options }) =>
    apply(session, { ...options, dryRun: true })
  )
}
