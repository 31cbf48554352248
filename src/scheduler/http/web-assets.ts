// The files of the dashboard as browsers get them: types stripped, names of packages replaced, everything under the hash of all.

import { createHash } from 'node:crypto'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { extname, join } from 'node:path'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import { HostletError } from '../../errors.ts'

/** Beside the sources, and beside a bundle of them that was given such a folder. */
const folder = join(import.meta.dirname, '../web')

/** What browser code may import that is not ours, and the file that browsers get. */
export const vendorModules: Readonly<Record<string, { readonly name: string; readonly file: string }>> = {
  preact: { name: 'preact.js', file: 'preact/dist/preact.mjs' },
  'preact/hooks': { name: 'preact-hooks.js', file: 'preact/hooks/dist/hooks.mjs' },
  htm: { name: 'htm.js', file: 'htm/dist/htm.module.js' },
  'htm/preact': { name: 'htm-preact.js', file: 'htm/preact/index.module.js' },
  uplot: { name: 'uplot.js', file: 'uplot/dist/uPlot.esm.js' },
  '@xterm/xterm': { name: 'xterm.js', file: '@xterm/xterm/lib/xterm.mjs' },
  '@xterm/addon-fit': { name: 'xterm-fit.js', file: '@xterm/addon-fit/lib/addon-fit.mjs' }
}
const vendorStyles = [
  { name: 'uplot.css', file: 'uplot/dist/uPlot.min.css' },
  { name: 'xterm.css', file: '@xterm/xterm/css/xterm.css' }
]
/** Large, and for one page: got when that is opened. */
const lateFiles = ['vendor/xterm.js', 'vendor/xterm-fit.js']

/**
 * What a package does that the policy of our pages forbids, done in another way: how often, what, and what instead. xterm
 * writes rules into elements of the page and styles into attributes; `hostlet-style` of ours, and the CSSOM, may.
 */
const edits: Readonly<Record<string, readonly (readonly [times: number, from: string, to: string])[]>> = {
  'xterm.js': [
    [3, '.createElement("style")', '.createElement("hostlet-style")'],
    [1, 't.setAttribute("style",', 't.style.cssText=(']
  ]
}

const types: Readonly<Record<string, string>> = {
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.html': 'text/html; charset=utf-8'
}

const encoders = {
  br: (bytes: Buffer) =>
    promisify(brotliCompress)(bytes, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }),
  gzip: promisify(gzip)
}
export const encodings = Object.keys(encoders) as readonly (keyof typeof encoders)[]
export type Encoding = keyof typeof encoders

/** One file. Compressed when somebody first asks for that, and kept. */
export class WebAsset {
  readonly type: string
  readonly bytes: Buffer
  readonly etag: string
  readonly #encoded = new Map<Encoding, Promise<Buffer>>()

  constructor(name: string, text: string) {
    this.type = types[extname(name)] ?? 'application/octet-stream'
    this.bytes = Buffer.from(text)
    this.etag = createHash('sha256').update(this.bytes).digest('base64url').slice(0, 22)
  }

  encoded(encoding: Encoding): Promise<Buffer> {
    const made = this.#encoded.get(encoding) ?? encoders[encoding](this.bytes)
    this.#encoded.set(encoding, made)
    return made
  }
}

export interface WebAssets {
  /** By the whole path that they are asked for. These are all: nothing else is ever read for an asker. */
  readonly files: ReadonlyMap<string, WebAsset>
  /** The application: the same for each of its pages. */
  readonly page: WebAsset
  /** For a path that there is not. */
  readonly missing: WebAsset
}

/**
 * Reads and prepares them. `from` is the folder of the sources, or one that `webFiles` was written to. Throws what reading
 * throws.
 */
export function loadWebAssets(from: string = folder): WebAssets {
  const files = webFiles(from)
  const served = [...files].filter(([name]) => extname(name) !== '.html')
  const hash = createHash('sha256')
  for (const [name, text] of served) hash.update(`${name}\0${text}\0`)
  const base = `/assets/${hash.digest('hex').slice(0, 16)}`
  const modules = served.filter(
    ([name]) => extname(name) === '.js' && name !== 'theme.js' && !lateFiles.includes(name)
  )
  const preloads = modules.map(([name]) => `<link rel="modulepreload" href="${base}/${name}">`).join('\n    ')
  const pageOf = (name: string) =>
    new WebAsset(
      name,
      (files.get(name) ?? '').replaceAll('/assets/', `${base}/`).replace('<!-- modules -->', preloads)
    )
  return {
    files: new Map(served.map(([name, text]) => [`${base}/${name}`, new WebAsset(name, text)])),
    page: pageOf('index.html'),
    missing: pageOf('missing.html')
  }
}

/** Every file by its name, ready for browsers: what a package may keep in place of the sources. */
export function webFiles(from: string = folder): ReadonlyMap<string, string> {
  const names = globSync('**/*.{ts,js,css,svg,html}', { cwd: from })
  const ours = names.map((name): [string, string] => {
    const text = readFileSync(join(from, name), 'utf8')
    return extname(name) === '.ts'
      ? [name.replace(/\.ts$/, '.js'), toBrowser(stripTypeScriptTypes(text), name)]
      : [name, text]
  })
  const all = existsSync(join(from, 'vendor')) ? ours : [...ours, ...vendorFiles()]
  return new Map(all.sort(([left], [right]) => (left < right ? -1 : 1)))
}

function vendorFiles(): [string, string][] {
  return [...Object.values(vendorModules), ...vendorStyles].map(({ name, file }) => {
    const text = edited(name, readFileSync(join(modulesFolder(), file), 'utf8'))
    return [
      `vendor/${name}`,
      toBrowser(text, `vendor/${name}`).replace(/\n?\/\/# sourceMappingURL=.*\s*$/, '\n')
    ]
  })
}

function edited(name: string, text: string): string {
  return (edits[name] ?? []).reduce((before, [times, from, to]) => {
    const found = before.split(from).length - 1
    if (found !== times)
      throw new HostletError('E_INTERNAL', `${name} has "${from}" ${found} times, expected ${times}`)
    return before.replaceAll(from, () => to)
  }, text)
}

/** The nearest node_modules that has them. */
function modulesFolder(): string {
  const found = ['../../..', '../../../..', '..', '.']
    .map((up) => join(import.meta.dirname, up, 'node_modules'))
    .find((path) => existsSync(join(path, 'preact')))
  return found ?? 'node_modules'
}

/** Browsers know no names of packages and no types: both are resolved here. */
function toBrowser(text: string, name: string): string {
  const up = '../'.repeat(name.split('/').length - 1)
  return text.replace(
    /((?:\bfrom|\bimport)\s*\(?)(['"])([^'"]+)\2/g,
    (whole, word: string, _quote, target: string) => {
      const vendor = vendorModules[target]
      if (vendor !== undefined) return `${word}'${up === '' ? './' : up}vendor/${vendor.name}'`
      return target.startsWith('.') ? `${word}'${target.replace(/\.ts$/, '.js')}'` : whole
    }
  )
}
