// A tree of files that stands for a host, for as long as the tests of a suite run.

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before } from 'node:test'

/** To be called within "describe". */
export function hostTree() {
  let root = ''
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'hostlet-doctor-'))
  })
  after(() => rm(root, { recursive: true, force: true }))
  return {
    get root() {
      return root
    },
    /** Resolves with the path of the file. */
    put: async (path: string, text = ''): Promise<string> => {
      const full = join(root, path)
      await mkdir(dirname(full), { recursive: true })
      await writeFile(full, text)
      return full
    }
  }
}
