// A new API key as it is told, this once: its text alone is the result.

import type { CreatedKey } from '../protocol/api.ts'
import type { Cli } from './cli.ts'
import { formatTime } from './quantities.ts'

export function tellCreatedKey(cli: Cli, created: CreatedKey): void {
  const { id, tier, expiresAt, secondFactor } = created.key
  cli.show(created, () => {
    const until = expiresAt === undefined ? '' : `, good until ${formatTime(expiresAt)}`
    cli.note(`Key ${id}, tier ${tier}${until}.`)
    if (secondFactor === 'wanted')
      cli.note(
        'It is good for nothing until its owner has set up a second factor with it: hostlet key second-factor --api-key-file FILE'
      )
    cli.note('Its text, shown this once:')
    return [created.text]
  })
}
