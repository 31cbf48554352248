// A process that accepts commands and says so, until it is killed.

import { writeSync } from 'node:fs'
import { Journal } from '../../../src/agent/operations/journal.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { claimsOf, vmUuid } from '../../support/signed-commands.ts'

const journal = new Journal(process.argv[2] ?? '', { clock: systemClock })
for (let generation = 1; generation < 100_000; generation++) {
  const claims = claimsOf(Date.now(), { subject: { vm: 'web-1', uuid: vmUuid, generation } })
  journal.accept(claims, 'digest')
  journal.begin(claims.id)
  journal.checkpoint(claims.id, 1, { generation })
  writeSync(1, `${claims.id}\n`)
}
