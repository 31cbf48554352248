// hostlet vm reboot NAME

import type { RebootVmRequest } from '../../protocol/api.ts'
import { examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { addressText, vmAction } from '../vm-action.ts'

export const define: Define = (command, cli) => {
  command.option('--force', 'press its reset button instead of asking the guest')
  vmAction<{ force?: boolean }>(command, cli, {
    action: 'reboot',
    body: (options): RebootVmRequest => (options.force ? { force: true } : {}),
    done: (operation) => `VM ${operation.vm ?? ''} has rebooted${addressText(operation)}.`
  })
  examples(command, 'hostlet vm reboot web-1', 'hostlet vm reboot web-1 --force')
}
