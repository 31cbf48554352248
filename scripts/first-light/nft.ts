// nft, as first light asks it: which tables there are, and to remove its own.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)

export async function nft(...args: readonly string[]): Promise<string> {
  const { stdout } = await run('nft', [...args], { timeout: 20_000 })
  return stdout
}

/** Tables of a name, each with its family: `inet hostlet`. */
export async function nftTables(name: string): Promise<readonly string[]> {
  const lines = (await nft('list', 'tables')).split('\n')
  return lines.map((line) => line.replace(/^table /, '')).filter((table) => table.split(' ')[1] === name)
}
