// What the package holds, and where each file goes.

import { chmodSync, cpSync, globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { completionScripts, shells } from '../../src/cli/completion/scripts.ts'
import { bundle } from './bundle.ts'
import { debianChangelog } from './changelog.ts'
import { copyright } from './copyright.ts'
import { manualPages } from './manual.ts'
import { copyRuntime } from './runtime.ts'

export interface Release {
  /** As package.json has it, or as it was asked for. */
  readonly version: string
  /** Seconds since 1970: the time that everything in the package carries. */
  readonly epoch: number
}

const documents = 'usr/share/doc/hostlet'

/** Configurations: dpkg asks before it replaces one that was edited. */
const configurations = ['agent.yaml', 'scheduler.yaml']

/** Fills an empty directory with the files of the package. */
export async function layOut(root: string, tree: Tree, release: Release): Promise<void> {
  const packages = await bundle({
    root,
    out: tree.directory('usr/lib/hostlet/app'),
    version: release.version
  })
  copyRuntime(root, tree.path('usr/lib/hostlet/bin/node'))
  tree.write('usr/bin/hostlet', launcher, 0o755)
  units(root, tree)
  for (const name of configurations) tree.copy(join(root, 'config', name), `etc/hostlet/${name}`)
  for (const shell of shells) tree.write(completionPlaces[shell], completionScripts[shell])
  for (const { name, text } of await manualPages(root, release))
    tree.write(`usr/share/man/man${name.at(-1)}/${name}.gz`, packed(text))
  documentation(root, tree)
  tree.write(`${documents}/copyright`, copyright(root, packages))
  tree.write(`${documents}/changelog.gz`, packed(debianChangelog(root, release)))
  tree.copy(join(root, 'scripts/package/debian/lintian-overrides'), 'usr/share/lintian/overrides/hostlet')
}

/** Names of the conffiles, absolute as dpkg wants them. */
export const conffiles = configurations.map((name) => `/etc/hostlet/${name}`)

const completionPlaces = {
  bash: 'usr/share/bash-completion/completions/hostlet',
  zsh: 'usr/share/zsh/vendor-completions/_hostlet',
  fish: 'usr/share/fish/vendor_completions.d/hostlet.fish'
}

const launcher = `#!/bin/sh
exec /usr/lib/hostlet/bin/node /usr/lib/hostlet/app/main.js "$@"
`

function units(root: string, tree: Tree): void {
  const from = join(root, 'systemd')
  for (const name of globSync('*.{service,mount}', { cwd: from }).sort())
    tree.copy(join(from, name), `usr/lib/systemd/system/${name}`)
  tree.copy(join(from, 'sysusers.d/hostlet.conf'), 'usr/lib/sysusers.d/hostlet.conf')
  tree.copy(join(from, 'tmpfiles.d/hostlet.conf'), 'usr/lib/tmpfiles.d/hostlet.conf')
  for (const name of globSync('*.rules', { cwd: join(from, 'udev') }))
    tree.copy(join(from, 'udev', name), `usr/lib/udev/rules.d/${name}`)
  for (const name of globSync('*.d/*.conf', { cwd: from }))
    if (name.includes('.service.d/')) tree.copy(join(from, name), `${documents}/examples/${name}`)
}

/** What links to a sample in the repository links to where the package has it. */
function documentation(root: string, tree: Tree): void {
  tree.copy(join(root, 'config/policy.yaml'), `${documents}/examples/policy.yaml`)
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const linked = readme
    .replaceAll('](config/policy', '](examples/policy')
    .replaceAll('](systemd/', '](examples/')
  tree.write(`${documents}/README.md`, linked.replaceAll('](config/', '](/etc/hostlet/'))
  tree.write(`${documents}/CHANGELOG.md.gz`, packed(readFileSync(join(root, 'CHANGELOG.md'), 'utf8')))
  tree.copy(join(root, 'SECURITY.md'), `${documents}/SECURITY.md`)
  const pages = globSync(['docs/**/*', 'monitoring/**/*'], { cwd: root, withFileTypes: true })
  for (const page of pages.filter((entry) => entry.isFile())) {
    const path = join(page.parentPath, page.name)
    tree.copy(path, join(documents, path.slice(root.length + 1)))
  }
}

/** gzip without the name and the time of the file that it was. */
function packed(text: string): Buffer {
  return gzipSync(text, { level: 9 })
}

/** A directory that becomes the root of a package: modes are set here, whatever the umask and the checkout's are. */
export class Tree {
  readonly root: string

  constructor(root: string) {
    this.root = root
  }

  path(name: string): string {
    const path = join(this.root, name)
    mkdirSync(dirname(path), { recursive: true })
    return path
  }

  directory(name: string): string {
    const path = join(this.root, name)
    mkdirSync(path, { recursive: true })
    return path
  }

  write(name: string, content: string | Buffer, mode = 0o644): void {
    const path = this.path(name)
    writeFileSync(path, content)
    chmodSync(path, mode)
  }

  copy(from: string, name: string): void {
    const path = this.path(name)
    cpSync(from, path)
    chmodSync(path, 0o644)
  }
}
