// A probe as a person writes it, such as db=tcp:5432, http:80/health or tls:443, and how its result is shown.

import { HostletError } from '../errors.ts'
import type { VmView } from '../protocol/api.ts'
import { type HealthProbe, healthProbeKinds } from '../protocol/vm.ts'
import { parseInteger } from './quantities.ts'

const form = /^(?:(?<name>[^=]+)=)?(?<kind>[a-z]+):(?<port>\d+)(?<path>\/.*)?$/

/** Without a name it has that of its kind and port. Throws E_BAD_REQUEST; the name and the path are the scheduler's to judge. */
export function parseHealthProbe(text: string): HealthProbe {
  const { name, kind = '', port = '', path } = form.exec(text)?.groups ?? {}
  const known = healthProbeKinds.find((each) => each === kind)
  if (known === undefined || (path !== undefined && known !== 'http'))
    throw new HostletError(
      'E_BAD_REQUEST',
      `--health ${text}: give it as NAME=tcp:PORT, NAME=tls:PORT or NAME=http:PORT/PATH; the name may be left out.`
    )
  return {
    name: name ?? `${known}-${port}`,
    kind: known,
    port: parseInteger(port, { what: '--health', minimum: 1, maximum: 65_535 }),
    ...(path === undefined ? {} : { path })
  }
}

/** In one word for a table: the worst of them, and how many are so. */
export function healthWord(health: VmView['health']): string {
  if (health === undefined || health.length === 0) return '-'
  for (const state of ['unhealthy', 'unknown'] as const) {
    const count = health.filter((probe) => probe.state === state).length
    if (count === health.length) return state
    if (count > 0) return `${count} of ${health.length} ${state}`
  }
  return 'healthy'
}
