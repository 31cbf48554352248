// A new API key as it is told, this once: its text alone is the result.

import type { CreatedKey } from '../protocol/api.ts'
import type { Cli } from './cli.ts'
import { formatTime } from './quantities.ts'

export function tellCreatedKey(cli: Cli, created: CreatedKey): void {
  const { id, tier, expiresAt, secondFactor } = created.key
  cli.show(created, () => {
    const until = expiresAt === undefined ? '' : `, good until ${formatTime(expiresAt)}`
    cli.note(`Key ${id}, tier ${tier}${until}. Its text is shown this once:`)
    if (secondFactor === 'wanted')
      cli.note(
        'Its owner sets up a second factor with it first: hostlet key second-factor --api-key-file FILE'
      )
    return [created.text]
  })
}
