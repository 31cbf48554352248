// The environment that the agent's systemd unit gives it: what is measured is the agent as it is installed.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const unit = join(import.meta.dirname, '../../systemd/hostlet.service')

/** `cacheDirectory` stands for systemd's `%C`. */
export function unitEnvironment(cacheDirectory: string): Record<string, string> {
  const lines = readFileSync(unit, 'utf8').matchAll(/^Environment=(.+)$/gm)
  const assignments = [...lines].flatMap(([, text = '']) => text.split(' '))
  return Object.fromEntries(
    assignments.map((assignment) => {
      const [name = '', ...value] = assignment.split('=')
      return [name, value.join('=').replace('%C', cacheDirectory)]
    })
  )
}
