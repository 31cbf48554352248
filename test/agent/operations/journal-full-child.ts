// A process that accepts commands until the disk is full, then looks at what is there.

import { Journal } from '../../../src/agent/operations/journal.ts'
import { asHostletError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { claimsOf, vmUuid } from '../../support/signed-commands.ts'

const path = process.argv[2] ?? ''
let acknowledged = 0

function fill(): { code: string; message: string } {
  using journal = new Journal(path, { clock: systemClock })
  try {
    for (let generation = 1; generation < 10_000; generation++) {
      const filler = { vm: 'web-1', filler: 'x'.repeat(4_000) }
      const subject = { vm: 'web-1', uuid: vmUuid, generation }
      journal.accept(claimsOf(Date.now(), { subject, arguments: filler }), 'digest')
      acknowledged = generation
    }
    return { code: 'none', message: 'the disk never filled' }
  } catch (error) {
    return asHostletError(error)
  }
}

const { code, message } = fill()
using journal = new Journal(path, { clock: systemClock })
const recorded = journal.unfinished().length
process.stdout.write(
  JSON.stringify({ code, message, acknowledged, recorded, generation: journal.generationOf(vmUuid) })
)
