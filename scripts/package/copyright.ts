// The copyright file: our licence, Node's, and those of the packages whose code is in the bundle.

import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { runtimePackage } from './runtime.ts'

interface Manifest {
  readonly name: string
  readonly version: string
  readonly license?: string
  readonly author?: string | { readonly name?: string }
}

/** In Debian's machine-readable form. `packages` are directories of packages. Throws for one without a licence. */
export function copyright(root: string, packages: readonly string[]): string {
  const own = { files: '*', holder: 'hostlet contributors', licence: 'Apache-2.0', text: apache }
  const runtime = {
    files: 'usr/lib/hostlet/bin/node',
    holder: 'Node.js contributors and those named below',
    licence: 'Node.js',
    text: readFileSync(join(runtimePackage(root), 'LICENSE'), 'utf8')
  }
  const bundled = packages.filter((path) => !path.endsWith('/node-libvirt')).map(bundledPart)
  return [header, ...[own, runtime, ...bundled].map(paragraph)].join('\n')
}

interface Part {
  readonly files: string
  readonly holder: string
  readonly licence: string
  readonly text: string
}

const header = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: hostlet
`

const apache = `On Debian systems the full text of the Apache License 2.0 is in
/usr/share/common-licenses/Apache-2.0.`

function paragraph({ files, holder, licence, text }: Part): string {
  return `Files: ${files}\nCopyright: ${holder}\nLicense: ${licence}\n${indented(text)}\n`
}

function bundledPart(directory: string): Part {
  const manifest = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as Manifest
  const { name, version } = manifest
  const licence = manifest.license
  if (licence === undefined)
    throw new Error(`${name} ${version} states no licence: it cannot be in the package`)
  const own = licenceText(directory)
  const text = licence === 'Apache-2.0' ? apache : own
  return {
    files: 'usr/lib/hostlet/app/*',
    holder: holderOf(manifest, own),
    // A name of its own for each: texts differ in their copyright lines.
    licence: `${licence.replaceAll(/[^\w.+-]+/g, '-')}-${name.replaceAll(/[^\w.-]+/g, '-').replace(/^-/, '')}`,
    text: `${name} ${version}, under ${licence}\n\n${text}`
  }
}

function licenceText(directory: string): string {
  const [file] = globSync('{LICEN[CS]E,licen[cs]e}*', { cwd: directory }).sort()
  return file === undefined ? 'The package holds no text of it.' : readFileSync(join(directory, file), 'utf8')
}

function holderOf({ name, author }: Manifest, text: string): string {
  const stated = /^\s*(Copyright\b.*\d{4}.*)$/m.exec(text)?.[1]
  if (stated !== undefined) return stated.trim()
  return (typeof author === 'string' ? author : author?.name) ?? `the authors of ${name}`
}

function indented(text: string): string {
  const lines = text.replaceAll('\r', '').trim().split('\n')
  return lines.map((line) => (line.trim() === '' ? ' .' : ` ${line.trimEnd()}`)).join('\n')
}
