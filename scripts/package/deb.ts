// From a directory to a .deb: control files, checksums, one time for everything, and dpkg-deb.

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, globSync, lstatSync, readFileSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { conffiles, type Release, type Tree } from './tree.ts'
import { debianVersion } from './version.ts'

export const compressions = ['xz', 'zstd', 'none'] as const
export type Compression = (typeof compressions)[number]

const architectures: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' }
const scripts = ['postinst', 'prerm', 'postrm']
const kibibyte = 1_024

/** Of the machine that builds, whose runtime goes into the package. */
export function architecture(): string {
  const name = architectures[process.arch]
  if (name === undefined) throw new Error(`no package is made for ${process.arch}`)
  return name
}

export function maintainer(root: string): string {
  return /^Maintainer: (.*)$/m.exec(template(root, 'control'))?.[1] ?? ''
}

/** Writes the package of what the tree holds to `file`. */
export function pack(options: {
  root: string
  tree: Tree
  release: Release
  file: string
  compression: Compression
}): void {
  const { root, tree, release, file, compression } = options
  const files = filesOf(tree.root)
  tree.write('DEBIAN/control', control(root, tree, release, files))
  tree.write('DEBIAN/conffiles', `${conffiles.join('\n')}\n`)
  tree.write(
    'DEBIAN/md5sums',
    files
      .filter((name) => !conffiles.includes(`/${name}`))
      .map((name) => md5Line(tree, name))
      .join('')
  )
  for (const name of scripts) tree.write(`DEBIAN/${name}`, template(root, name), 0o755)
  settle(tree.root, release.epoch)
  const { status, error, stderr } = spawnSync(
    'dpkg-deb',
    ['--root-owner-group', `-Z${compression}`, ...levels[compression], '--build', tree.root, file],
    { encoding: 'utf8', env: { ...process.env, SOURCE_DATE_EPOCH: String(release.epoch) } }
  )
  if (error !== undefined)
    throw new Error('dpkg-deb is not there: packages are built on Debian', { cause: error })
  if (status !== 0) throw new Error(`dpkg-deb failed: ${stderr}`)
}

const levels: Readonly<Record<Compression, readonly string[]>> = { xz: ['-z6'], zstd: ['-z1'], none: [] }

function control(root: string, tree: Tree, { version }: Release, files: readonly string[]): string {
  const kibibytes = files.reduce(
    (sum, name) => sum + Math.ceil(lstatSync(join(tree.root, name)).size / kibibyte),
    0
  )
  return template(root, 'control')
    .replace('@VERSION@', debianVersion(version))
    .replace('@ARCHITECTURE@', architecture())
    .replace('@INSTALLED_SIZE@', String(kibibytes))
}

function template(root: string, name: string): string {
  return readFileSync(join(root, 'scripts/package/debian', name), 'utf8')
}

function filesOf(directory: string): string[] {
  return globSync('**/*', { cwd: directory })
    .filter((name) => lstatSync(join(directory, name)).isFile())
    .sort()
}

function md5Line(tree: Tree, name: string): string {
  return `${createHash('md5')
    .update(readFileSync(join(tree.root, name)))
    .digest('hex')}  ${name}\n`
}

/** Modes and times: of the release, not of the machine that builds it. */
function settle(directory: string, epoch: number): void {
  for (const name of ['.', ...globSync('**/*', { cwd: directory })]) {
    const path = join(directory, name)
    const stat = lstatSync(path)
    chmodSync(path, stat.isDirectory() || (stat.mode & 0o111) !== 0 ? 0o755 : 0o644)
  }
  for (const name of globSync('**/*', { cwd: directory })) utimesSync(join(directory, name), epoch, epoch)
  utimesSync(directory, epoch, epoch)
}
