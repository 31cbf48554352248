// The host's policy, one file: which repositories it writes to and who can open that, and which commands it obeys. Written
// by the host's administrator; no command can change any of it.

import { statSync } from 'node:fs'
import { dirname } from 'node:path'
import { asHostletError, HostletError } from '../../errors.ts'
import { parseConfigText } from '../../lib/config-file.ts'
import { type Static, Type } from '../../lib/schema.ts'
import { strict } from '../../protocol/names.ts'
import { backupFaults, backupSections } from './backup-sections.ts'
import { CommandSections, commandFaults } from './command-sections.ts'
import { policyOwners, policyPath } from './paths.ts'
import { readTrustedFile } from './trusted-file.ts'

export const PolicySchema = Type.Object(
  { ...backupSections, commands: Type.Optional(CommandSections) },
  strict
)
export type Policy = Static<typeof PolicySchema>

/** Neither backups nor rules: what a host does without a policy. */
export const emptyPolicy: Policy = {
  repositories: {},
  recovery: [],
  tenants: [],
  unlockKeys: [],
  authorities: [],
  exportDirectories: []
}

/**
 * The policy as it is now; undefined where there is none. Throws E_AUTH when others than root may have written it,
 * E_BAD_REQUEST naming each fault of its text with line and column.
 */
export function findPolicy(path: string = policyPath): Policy | undefined {
  try {
    return parsePolicy(
      readTrustedFile(path, { what: 'the policy of this host', owners: policyOwners(path) }),
      path
    )
  } catch (error) {
    if (error instanceof HostletError && error.code === 'E_NOT_FOUND') return undefined
    throw error
  }
}

/** The same for what cannot do without: throws E_AUTH where there is none. */
export function loadPolicy(path: string = policyPath): Policy {
  const policy = findPolicy(path)
  if (policy !== undefined) return policy
  throw new HostletError(
    'E_AUTH',
    `this host takes no backups: it has no policy ${path}. An administrator writes one on the host; the commented sample is config/policy.yaml.`
  )
}

export function parsePolicy(text: string, path: string): Policy {
  return parseConfigText(text, path, PolicySchema, (policy) => [
    ...backupFaults(policy),
    ...(policy.commands === undefined ? [] : commandFaults(policy.commands))
  ])
}

/** The policy for what asks often: parsed anew when its file is another, and looked at each time. */
export class PolicyFile {
  readonly path: string
  #seen: { readonly mark: string | undefined; read(): Policy | undefined } | undefined

  constructor(path: string) {
    this.path = path
  }

  /** As `findPolicy`. */
  read(): Policy | undefined {
    const mark = markOf(this.path)
    if (mark === undefined || this.#seen?.mark !== mark)
      this.#seen = { mark, read: remembered(() => findPolicy(this.path)) }
    return this.#seen.read()
  }

  /** The first thing that is wrong with it, in one line; undefined for one that is sound, or is not there. */
  fault(): string | undefined {
    try {
      this.read()
      return undefined
    } catch (error) {
      const [first = '', ...rest] = asHostletError(error).message.split('\n')
      return rest.length === 0 ? first : `${first} (and ${rest.length} more)`
    }
  }
}

/** Times of files move in steps: what was changed just now may be changed again without another mark. */
const settledMs = 1_000

/** Changes whenever another look might find something else: at content, owner or mode, of the file or its directory. */
function markOf(path: string): string | undefined {
  try {
    const [file, directory] = [path, dirname(path)].map((each) => statSync(each, { bigint: true }))
    if (file === undefined || Math.abs(Date.now() - Number(file.ctimeMs)) < settledMs) return undefined
    const { dev, ino, size, mtimeNs, ctimeNs, mode, uid } = file
    return [dev, ino, size, mtimeNs, ctimeNs, mode, uid, directory?.mode, directory?.uid].join()
  } catch {
    // The look itself says what is wrong.
    return undefined
  }
}

function remembered<Value>(make: () => Value): () => Value {
  try {
    const value = make()
    return () => value
  } catch (error) {
    return () => {
      throw error
    }
  }
}
