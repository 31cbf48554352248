// The shape of the source tree, held as a test: imports point down, only the host folder knows libvirt, files stay small.

import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, it } from 'node:test'
import { vendorModules } from '../src/scheduler/http/web-assets.ts'

const root = join(import.meta.dirname, '..')
const sources = globSync('src/**/*.ts', { cwd: root })
  .filter((path) => !path.includes('node_modules'))
  .sort()

/** What the files of an area may import of ours besides their own area; the longest prefix that matches counts. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  'src/errors.ts': [],
  'src/lib/': ['src/errors.ts'],
  'src/node-libvirt/': [],
  'src/node-libvirt/protocol/': ['src/node-libvirt/xdr/'],
  'src/node-libvirt/xdr/': [],
  'src/protocol/': ['src/errors.ts', 'src/lib/schema.ts'],
  'src/backup/': ['src/lib/', 'src/errors.ts'],
  'src/agent/': ['src/backup/', 'src/lib/', 'src/protocol/', 'src/errors.ts'],
  'src/scheduler/': ['src/lib/', 'src/protocol/', 'src/errors.ts'],
  'src/scheduler/web/': ['src/protocol/'],
  'src/cli/': ['src/agent/', 'src/backup/', 'src/scheduler/', 'src/lib/', 'src/protocol/', 'src/errors.ts'],
  'src/main.ts': ['src/cli/', 'src/lib/', 'src/errors.ts']
}

/** Longest file that one can hold in mind; declaration tables aside. */
const fileLinesMax = 400
const declarationTables = ['src/node-libvirt/protocol/', 'src/protocol/']

function areaOf(path: string): string {
  const areas = Object.keys(allowed).filter(
    (area) => path === area || (area.endsWith('/') && path.startsWith(area))
  )
  const longest = areas.sort((left, right) => right.length - left.length)[0]
  assert.ok(longest, `${path} belongs to no area: add one to this table, with what it may import`)
  return longest
}

interface Import {
  readonly specifier: string
  /** Path from the root when it is ours, undefined for packages. */
  readonly target: string | undefined
}

function importsOf(path: string): Import[] {
  const text = readFileSync(join(root, path), 'utf8')
  const pattern =
    /(?:^|[^\w.])(?:import|export)\s[^'"`;]*?from\s*'([^']+)'|(?:^|[^\w.])import\s*\(?\s*'([^']+)'/gm
  return [...text.matchAll(pattern)].map((match) => {
    const specifier = match[1] ?? match[2] ?? ''
    const target = specifier.startsWith('.')
      ? relative(root, join(root, dirname(path), specifier))
      : undefined
    return { specifier, target }
  })
}

function faultsOf(path: string): string[] {
  const area = areaOf(path)
  return importsOf(path)
    .flatMap(({ target }) => (target === undefined ? [] : [target]))
    .filter((target) => target !== area && !(area.endsWith('/') && target.startsWith(area)))
    .filter(
      (target) => !(allowed[area] ?? []).some((prefix) => target === prefix || target.startsWith(prefix))
    )
    .map((target) => `${path} imports ${target}`)
}

describe('structure of the source tree', () => {
  it('has sources to look at', () => {
    assert.ok(sources.length > 20, `found ${sources.length} files`)
  })

  it('imports downwards only', () => {
    assert.deepEqual(sources.flatMap(faultsOf), [])
  })

  it('lets only the host folder of the agent know libvirt', () => {
    const knowing = sources.filter((path) =>
      importsOf(path).some(({ specifier }) => specifier.startsWith('node-libvirt'))
    )
    assert.deepEqual(
      knowing.filter((path) => !path.startsWith('src/agent/host/')),
      []
    )
  })

  it('gives node-libvirt nothing but Node', () => {
    const foreign = sources
      .filter((path) => path.startsWith('src/node-libvirt/'))
      .flatMap((path) => importsOf(path).map(({ specifier }) => ({ path, specifier })))
      .filter(({ specifier }) => !specifier.startsWith('.') && !specifier.startsWith('node:'))
    assert.deepEqual(foreign, [])
  })

  it('runs the code of the dashboard in browsers alone, with what browsers are given', () => {
    const web = sources.filter((path) => path.startsWith('src/scheduler/web/'))
    assert.ok(web.length > 20, `found ${web.length} files`)
    const foreign = web.flatMap((path) =>
      importsOf(path)
        .filter(({ target, specifier }) => target === undefined && vendorModules[specifier] === undefined)
        .map(({ specifier }) => `${path} imports ${specifier}`)
    )
    assert.deepEqual(foreign, [])
    const values = web.filter((path) =>
      /^import (?!type\b)[^'"]*from '(?:\.\.\/)+protocol\//m.test(readFileSync(join(root, path), 'utf8'))
    )
    assert.deepEqual(values, [], 'only types come from the protocol: the rest of it is not sent to browsers')
    // The protocol's types bring Node's with them, so that the compiler does not mind.
    const nodes = web.filter((path) =>
      /\b(?:Buffer|process|setImmediate|require)\b[.(]/.test(readFileSync(join(root, path), 'utf8'))
    )
    assert.deepEqual(nodes, [])
    const users = sources.filter(
      (path) =>
        !path.startsWith('src/scheduler/web/') &&
        importsOf(path).some(({ target }) => target?.startsWith('src/scheduler/web/'))
    )
    assert.deepEqual(users, [])
  })

  it('says in the first line of each file what it owns', () => {
    const silent = sources.filter(
      (path) => !/^(#!.*\n)?(\/\/|\/\*\*) ?\S/.test(readFileSync(join(root, path), 'utf8'))
    )
    assert.deepEqual(silent, [])
  })

  it('keeps files short enough to hold in mind', () => {
    const long = sources
      .filter((path) => !declarationTables.some((prefix) => path.startsWith(prefix)))
      .map((path) => ({ path, lines: readFileSync(join(root, path), 'utf8').split('\n').length }))
      .filter(({ lines }) => lines > fileLinesMax)
    assert.deepEqual(long, [])
  })

  it('ends the process in one place only', () => {
    const exiting = sources.filter((path) => /process\.exit\(/.test(readFileSync(join(root, path), 'utf8')))
    assert.deepEqual(
      exiting.filter((path) => path !== 'src/main.ts'),
      []
    )
  })
})
