// The files of VMs: what was named on the command line, read and checked whole before anything is done.

import { readdirSync, readFileSync, statSync } from 'node:fs'
import { extname, join } from 'node:path'
import { asHostletError, HostletError } from '../../errors.ts'
import { parseConfigDocuments, readConfigText } from '../../lib/config-file.ts'
import { Manifest } from './schema.ts'
import { manifestRules, type WantedVm, wantedOf } from './wanted.ts'

/** VMs of one call. */
export const appliedVmsMax = 1_000
const extensions: ReadonlySet<string> = new Set(['.yaml', '.yml'])
const standardInput = '-'

/**
 * VMs of files, of directories (their .yaml and .yml files, in order), and of standard input (`-`). Throws E_BAD_REQUEST with
 * each fault of all of them, a line each, and E_NOT_FOUND. What values say is judged only in documents that fit the schema.
 */
export function readWanted(paths: readonly string[]): readonly WantedVm[] {
  const wanted: WantedVm[] = []
  const faults: string[] = []
  for (const path of paths.flatMap(filesOf)) {
    try {
      wanted.push(...readFile(path))
    } catch (error) {
      const { code, message } = asHostletError(error)
      if (code !== 'E_BAD_REQUEST') throw error
      faults.push(message)
    }
  }
  faults.push(...twice(wanted))
  if (faults.length > 0)
    throw new HostletError('E_BAD_REQUEST', faults.join('\n'), { details: { faults: faults.length } })
  if (wanted.length > appliedVmsMax)
    throw new HostletError(
      'E_BAD_REQUEST',
      `the files hold ${wanted.length} VMs, one call takes ${appliedVmsMax}.`
    )
  if (wanted.length > 0) return wanted
  throw new HostletError(
    'E_BAD_REQUEST',
    `there is no VM in ${paths.join(', ')}. See "hostlet vm export NAME" for one.`
  )
}

function filesOf(path: string): readonly string[] {
  if (path === standardInput || !isDirectory(path)) return [path]
  return readdirSync(path)
    .filter((name) => extensions.has(extname(name)))
    .sort()
    .map((name) => join(path, name))
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}

function readFile(path: string): readonly WantedVm[] {
  const name = path === standardInput ? 'standard input' : path
  const documents = parseConfigDocuments(textOf(path), name, Manifest, manifestRules(path))
  return documents.map(({ value, line }) => ({
    ...wantedOf(value, { file: path, line }),
    where: `${name}:${line}`
  }))
}

function textOf(path: string): string {
  try {
    return path === standardInput ? readFileSync(0, 'utf8') : readConfigText(path)
  } catch (cause) {
    if (cause instanceof HostletError && cause.code !== 'E_NOT_FOUND') throw cause
    const code = (cause as NodeJS.ErrnoException).code
    if (cause instanceof HostletError || code === 'ENOENT')
      throw new HostletError(
        'E_NOT_FOUND',
        `${path}: no such file or directory. Give -f a file, a directory or -.`,
        {
          cause
        }
      )
    throw new HostletError('E_BAD_REQUEST', `${path}: cannot be read (${code ?? 'unknown error'}).`, {
      cause
    })
  }
}

function twice(wanted: readonly WantedVm[]): string[] {
  const first = new Map<string, string>()
  return wanted.flatMap(({ name, where }) => {
    const before = first.get(name)
    first.set(name, before ?? where)
    return before === undefined ? [] : [`${where}: VM ${name} is in ${before} already. Give each VM once.`]
  })
}
