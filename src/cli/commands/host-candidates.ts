// hostlet host candidates: where a VM would stand, and why not elsewhere. Nothing is made.

import { clientCommand, examples } from '../client-command.ts'
import type { Define } from '../define.ts'
import { declarePlacement, type PlacementOptions, wishOf } from '../placement-options.ts'
import { placementLines } from '../placement-text.ts'
import { parseBytes, parseInteger } from '../quantities.ts'

interface Options extends PlacementOptions {
  readonly cpus: string
  readonly memory: string
  readonly disk: string
  readonly profile: string
}

export const define: Define = (command, cli) => {
  command
    .option('--cpus <count>', 'virtual CPUs', '1')
    .option('--memory <size>', 'memory', '512MiB')
    .option('--disk <size>', 'size of all its disks together', '4GiB')
    .option('--profile <profile>', 'isolation profile', 'starter')
  declarePlacement(command)
  examples(
    command,
    'hostlet host candidates --cpus 8 --memory 32GiB',
    'hostlet host candidates --memory 4GiB --profile premium --require region=eu'
  )
  clientCommand<Options>(command, cli, async ({ client, signal }, { options }) => {
    const body = {
      cpus: parseInteger(options.cpus, { what: '--cpus', minimum: 1, maximum: 4_096 }),
      memoryBytes: parseBytes(options.memory),
      diskBytes: parseBytes(options.disk),
      profile: options.profile,
      ...wishOf(options)
    }
    const answer = await client.ask(
      { method: 'POST', path: '/v1/placements', body, signal },
      'PlacementReply'
    )
    cli.show(answer, () => placementLines(answer.placement, cli))
  })
}
