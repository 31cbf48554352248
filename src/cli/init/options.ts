// Options of "hostlet init".

import type { HostChoices } from './choices.ts'

export interface InitOptions extends HostChoices {
  readonly tokenFile?: string
  readonly scheduler?: string
  readonly caHash?: string
  readonly schedulerHere?: boolean
  readonly name?: readonly string[]
  /** In place of the identity that is here. */
  readonly rejoin?: boolean
  readonly dryRun?: boolean
  readonly yes?: boolean
  readonly force?: boolean
}
