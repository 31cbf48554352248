// hostlet vm stop NAME

import type { StopVmRequest } from '../../protocol/api.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { parseDuration } from '../quantities.ts'
import { vmAction } from '../vm-action.ts'

interface Options {
  readonly grace?: string
  readonly force?: boolean
}

export const define: Define = (command, cli) => {
  command
    .option('--grace <duration>', 'how long the guest may take before its power is cut (default: the host’s)')
    .option('--force', 'cut its power at once')
  vmAction<Options>(command, cli, {
    action: 'stop',
    body: (options): StopVmRequest => ({
      ...(options.grace === undefined ? {} : { graceMs: parseDuration(options.grace) }),
      ...(options.force ? { force: true } : {})
    }),
    done: (operation) =>
      operation.value?.forced === true
        ? `VM ${operation.vm ?? ''} is off: its power was cut.`
        : `VM ${operation.vm ?? ''} has shut down.`
  })
  examples(
    command,
    'hostlet vm stop web-1',
    'hostlet vm stop web-1 --grace 2m',
    'hostlet vm stop web-1 --force'
  )
}
