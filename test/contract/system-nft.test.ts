// nft itself, held to the contract, on a table of the test's own.

import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SystemNft } from '../../src/agent/firewall/nft.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { describeNft } from './nft.contract.ts'

const cannotRun =
  spawnSync('nft', ['list', 'tables']).status === 0 ? false : 'nft is not here, or not allowed'

describeNft('of the kernel', {
  skip: cannotRun,
  open: async () => {
    const directory = await mkdtemp(join(tmpdir(), 'hostlet-nft-'))
    return {
      nft: new SystemNft({ clock: systemClock, log: silentLogger, directory }),
      table: `hl-t-${randomBytes(4).toString('hex')}`,
      dispose: () => rm(directory, { recursive: true })
    }
  }
})
