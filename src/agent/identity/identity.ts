// Who this host is: what enrollment gave it, kept in one file, so that it is replaced whole or not at all.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { HostletError } from '../../errors.ts'
import { ensurePrivateDirectory, writePrivateFile } from '../../lib/private-file.ts'
import { type Static, Type } from '../../lib/schema.ts'
import { EnrollmentReply } from '../../protocol/enrollment.ts'
import { strict, Timestamp } from '../../protocol/names.ts'
import { TrustJws } from '../../protocol/trust.ts'
import { compile } from '../../protocol/validate.ts'

const { trust: _statements, ...granted } = EnrollmentReply.properties

const IdentitySchema = Type.Object(
  {
    ...granted,
    /** The trust statement in force, a compact JWS: where `commandKeys` and `caCertificate` come from since enrollment. */
    statement: Type.Optional(TrustJws),
    /** PEM, PKCS #8. Made on this host; it never leaves it. */
    key: Type.String({ maxLength: 8_192 }),
    enrolledAt: Timestamp,
    /** Which machine it was given to; see machine.ts. */
    machine: Type.Optional(Type.String({ pattern: '^[0-9a-f]{64}$' }))
  },
  strict
)
export type Identity = Static<typeof IdentitySchema>

const parseIdentity = compile(IdentitySchema, 'identity')

export function identityPath(stateDirectory: string): string {
  return join(stateDirectory, 'identity.json')
}

export function isEnrolled(stateDirectory: string): boolean {
  return existsSync(identityPath(stateDirectory))
}

/** Throws E_NOT_FOUND when the host is not enrolled, E_CORRUPT when the file is not what enrollment wrote. */
export function loadIdentity(stateDirectory: string): Identity {
  const path = identityPath(stateDirectory)
  const text = read(path)
  try {
    return parseIdentity(JSON.parse(text))
  } catch (cause) {
    throw new HostletError(
      'E_CORRUPT',
      `${path} is damaged. Enroll the host again: "hostlet enroll --force".`,
      {
        cause
      }
    )
  }
}

/** Written atomically, 0600 in a directory of 0700. */
export function saveIdentity(stateDirectory: string, identity: Identity): void {
  ensurePrivateDirectory(stateDirectory)
  writePrivateFile(identityPath(stateDirectory), `${JSON.stringify(identity, undefined, 2)}\n`)
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT')
      throw new HostletError(
        'E_NOT_FOUND',
        `this host is not enrolled: there is no ${path}. Get a token with "hostlet host token" and run "hostlet enroll".`,
        { cause, details: { reason: 'missing' } }
      )
    throw new HostletError(
      'E_UNAVAILABLE',
      `${path} cannot be read. Does it belong to the user that runs hostlet?`,
      {
        cause
      }
    )
  }
}
