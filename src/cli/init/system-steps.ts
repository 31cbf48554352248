// Steps that host and scheduler have in common: accounts of the services, and their configuration.

import { HostletError } from '../../errors.ts'
import type { Machine } from './machine.ts'
import type { Step } from './steps.ts'

export interface WantedConfig {
  readonly path: string
  readonly text: string
}

const sysusers = '/usr/lib/sysusers.d/hostlet.conf'
const tmpfiles = '/usr/lib/tmpfiles.d/hostlet.conf'

/** A user that the package has not made, and its directories. */
export function accountSteps(machine: Machine, user: string): Step[] {
  return [
    {
      what: `make the user ${user}`,
      isDone: () => machine.account(user) !== undefined,
      act: async () => {
        if (!machine.exists(sysusers))
          throw new HostletError('E_NOT_FOUND', `there is no ${sysusers}: install the package first`)
        await machine.must('systemd-sysusers', [])
        if (machine.exists(tmpfiles)) await machine.must('systemd-tmpfiles', ['--create', tmpfiles])
        return undefined
      },
      help: 'The package brings systemd/sysusers.d/hostlet.conf; "systemd-sysusers" makes what stands there.'
    }
  ]
}

/** What was there and is another one is kept beside it. */
export function configStep(machine: Machine, { path, text }: WantedConfig, user: string): Step {
  return {
    what: `write ${path}`,
    isDone: () => machine.read(path) === text,
    act: async () => {
      const before = machine.read(path)
      const group = machine.account(user)?.gid
      const kept = `${path}.${new Date(machine.clock.now()).toISOString().replaceAll(/[-:]|\.\d+/g, '')}.bak`
      if (before !== undefined) machine.write(kept, before, { mode: 0o640, group })
      machine.write(path, text, { mode: 0o640, group })
      return before === undefined ? undefined : `what was there is in ${kept}`
    },
    help: 'Look at the directory: whether it is there, and its file system writable.'
  }
}
