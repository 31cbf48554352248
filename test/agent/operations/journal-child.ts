// A process that accepts commands and says so once the disk has them, until it is killed or its disk fails.

import { writeSync } from 'node:fs'
import { Journal } from '../../../src/agent/operations/journal.ts'
import { asHostletError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { claimsOf, vmUuid } from '../../support/signed-commands.ts'

const journal = new Journal(process.argv[2] ?? '', { clock: systemClock })
try {
  for (let generation = 1; generation < 100_000; generation++) {
    const claims = claimsOf(Date.now(), { subject: { vm: 'web-1', uuid: vmUuid, generation } })
    journal.accept(claims, 'digest')
    journal.begin(claims.id)
    journal.checkpoint(claims.id, 1, { generation })
    await journal.durable()
    writeSync(1, `${claims.id}\n`)
  }
} catch (error) {
  writeSync(2, `${asHostletError(error).code} ${asHostletError(error).details.reason}\n`)
  process.exitCode = 1
}
