// Builds the Debian package: `npm run package`, or with another version, place or compression.

import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { architecture, type Compression, compressions, pack } from './package/deb.ts'
import { layOut, Tree } from './package/tree.ts'
import { debianVersion, sourceEpoch, sourceVersion } from './package/version.ts'

const root = join(import.meta.dirname, '..')

export interface PackageOptions {
  readonly out: string
  readonly version?: string | undefined
  readonly compression?: Compression | undefined
}

/** Builds the package of this checkout and resolves with its path. Same input, same bytes. */
export async function buildPackage({ out, version, compression = 'xz' }: PackageOptions): Promise<string> {
  const release = { version: version ?? sourceVersion(root), epoch: sourceEpoch(root) }
  const file = join(resolve(out), `hostlet_${debianVersion(release.version)}_${architecture()}.deb`)
  mkdirSync(resolve(out), { recursive: true })
  const staging = mkdtempSync(join(tmpdir(), 'hostlet-package-'))
  try {
    const tree = new Tree(join(staging, 'tree'))
    await layOut(root, tree, release)
    pack({ root, tree, release, file, compression })
  } finally {
    rmSync(staging, { recursive: true, force: true })
  }
  return file
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      out: { type: 'string', default: join(root, 'dist') },
      version: { type: 'string' },
      compression: { type: 'string', default: 'xz' }
    }
  })
  const compression = compressions.find((each) => each === values.compression)
  if (compression === undefined) throw new Error(`--compression is one of ${compressions.join(', ')}`)
  const file = await buildPackage({ out: values.out, version: values.version, compression })
  console.log(`${file} (${(statSync(file).size / 1e6).toFixed(1)} MB)`)
  return 0
}

if (import.meta.main) {
  try {
    process.exitCode = await main()
  } catch (error) {
    console.error(`package: ${error instanceof Error ? error.message : String(error)}`)
    process.exitCode = 1
  }
}
