// hostlet host label HOST KEY=VALUE KEY-: sets and removes labels.

import { HostletError } from '../../errors.ts'
import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { describeLabels, labelsOf } from '../placement-options.ts'

export const define: Define = (command, cli) => {
  command
    .argument('<host>', 'id of the host')
    .argument('<labels...>', 'label=value to set one, label- to remove one')
  examples(command, 'hostlet host label kvm-1 region=eu rack=r1', 'hostlet host label kvm-1 rack-')
  clientCommand<object, readonly [string, readonly string[]]>(
    command,
    cli,
    async ({ client, signal }, { arguments: [host, words] }) => {
      const body = changeOf(words)
      const request = { method: 'PUT', path: `${apiPath('hosts', host)}/labels`, body, signal } as const
      const answer = await client.ask(request, 'LabelsReply')
      const labels = describeLabels(answer.labels)
      cli.show(answer, () => [labels === '' ? `Host ${host} has no labels.` : `Host ${host}: ${labels}`])
    }
  )
}

/** Throws E_BAD_REQUEST. */
function changeOf(words: readonly string[]) {
  const remove = words
    .filter((word) => !word.includes('=') && word.endsWith('-'))
    .map((word) => word.slice(0, -1))
  const set = words.filter((word) => word.includes('='))
  const neither = words.find((word) => !word.includes('=') && !word.endsWith('-'))
  if (neither !== undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      `"${neither}" is neither label=value nor label-: write ${neither}=VALUE to set it, ${neither}- to remove it.`
    )
  return { set: labelsOf(set, 'a label'), remove }
}
