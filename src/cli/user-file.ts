// The user's own file, ~/.config/hostlet/cli.yaml: where the scheduler is, so that no command has to say it.

import { loadConfigFile } from '../lib/config-file.ts'
import { type Static, Type } from '../lib/schema.ts'

const FilePath = Type.String({ minLength: 1, maxLength: 1_024 })

export const UserFileSchema = Type.Object(
  {
    scheduler: Type.Optional(
      Type.String({ pattern: '^https://', maxLength: 512, description: 'an https:// address' })
    ),
    apiKeyFile: Type.Optional(FilePath),
    caFile: Type.Optional(FilePath)
  },
  { additionalProperties: false }
)
export type UserFile = Static<typeof UserFileSchema>

/** Throws E_BAD_REQUEST with file, line and column. */
export function loadUserFile(path: string): UserFile {
  return loadConfigFile(path, UserFileSchema)
}
