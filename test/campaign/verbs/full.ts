// Fills a small file system to the last byte.

import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Files until nothing more fits; removed by what it returns. */
export function fill(place: string): () => void {
  mkdirSync(place, { recursive: true })
  const ballast = mkdtempSync(join(place, 'ballast-'))
  const pieces = [65_536, 4_096, 1_024]
  for (const [kind, bytes] of pieces.entries())
    for (let piece = 0; piece < 100_000; piece++)
      try {
        writeFileSync(join(ballast, `${kind}-${piece}`), Buffer.alloc(bytes))
      } catch {
        break
      }
  if (statfsSync(place).bavail > 0) throw new Error(`${place} is not full`)
  return () => rmSync(ballast, { recursive: true })
}
