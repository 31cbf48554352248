// Names of hosts and VMs for the completion of a shell: as the scheduler has them, if it answers at once.

import { ApiClient } from '../api-client.ts'
import type { Cli } from '../cli.ts'
import { findConnection } from '../connection.ts'
import type { Candidate } from './candidates.ts'

/** Longer than that nobody waits for a key to do something. */
const answerMsMax = 1_000
/** More than that nobody reads. */
const namesMax = 1_000

/** None where there is no scheduler to ask, whatever the reason: a line that is being typed is no place for errors. */
export async function fleetNames(
  kind: 'hosts' | 'vms',
  options: Readonly<Record<string, string>>,
  cli: Cli
): Promise<readonly Candidate[]> {
  try {
    using client = new ApiClient(await findConnection(cli, options))
    return await ask(client, kind, AbortSignal.timeout(answerMsMax))
  } catch {
    return []
  }
}

async function ask(client: ApiClient, kind: 'hosts' | 'vms', signal: AbortSignal): Promise<Candidate[]> {
  const request = { method: 'GET', path: `/v1/${kind}`, signal } as const
  if (kind === 'hosts') {
    const { hosts } = await client.ask(request, 'HostList')
    return hosts.map(({ id, state }) => ({ value: id, description: state }))
  }
  const { vms } = await client.ask({ ...request, query: { limit: namesMax } }, 'VmList')
  return vms.map(({ name, state, host }) => ({ value: name, description: `${state} on ${host}` }))
}
