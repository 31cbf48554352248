// The live table of first light, with how to command it from another shell below it.

import { setTimeout as sleep } from 'node:timers/promises'
import { LiveBlock } from '../../src/cli/live-block.ts'
import { cut, plain } from '../../src/cli/table.ts'
import { renderTop } from '../../src/cli/top-view.ts'
import type { LatestMetrics } from '../../src/protocol/api.ts'
import { repositoryName } from './files.ts'
import type { Fleet } from './fleet.ts'

const intervalMs = 2_000
const columnsDefault = 100
const rowsDefault = 24

/** Goes on until the signal; then throws its reason. */
export async function liveTable(fleet: Fleet): Promise<never> {
  const block = new LiveBlock((text) => process.stdout.write(text))
  const help = helpLines(fleet)
  console.log('')
  for (;;) {
    const width = (process.stdout.columns || columnsDefault) - 1
    block.draw(
      [...(await table(fleet, width)), '', ...help.map((line) => cut(line, width))],
      (process.stdout.rows || rowsDefault) - 1
    )
    await sleep(intervalMs, undefined, { signal: fleet.signal })
  }
}

async function table(fleet: Fleet, width: number): Promise<readonly string[]> {
  const { client, signal } = fleet
  let latest: LatestMetrics
  try {
    latest = await client.ask({ method: 'GET', path: '/v1/metrics/latest', signal }, 'LatestMetrics')
  } catch (error) {
    if (signal.aborted) throw error
    return [cut(plain(`no figures: ${(error as Error).message}`), width)]
  }
  return renderTop(latest, { width, colour: process.stdout.hasColors?.() ?? false })
}

function helpLines({ settings }: Fleet): readonly string[] {
  return [
    'From another shell:',
    `  . ${settings.envFile}`,
    `  hostlet vm ls; hostlet vm stop ${settings.vm}; hostlet vm start ${settings.vm}; hostlet events -f; hostlet top`,
    `  hostlet backup ls; hostlet vm backup ${settings.vm} --target ${repositoryName}; hostlet vm restore ${settings.vm} --as ${settings.copy}`,
    'Ctrl-C takes everything down.'
  ]
}
