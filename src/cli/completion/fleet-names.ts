// Names of hosts and VMs for the completion of a shell: as the scheduler has them, if it answers at once.

import { ApiClient } from '../api-client.ts'
import type { Cli } from '../cli.ts'
import { findConnection } from '../connection.ts'
import type { Candidate } from './candidates.ts'

/** Longer than that nobody waits for a key to do something. */
const answerMsMax = 1_000
/** More than that nobody reads. */
const namesMax = 1_000
/** Ids look alike: only of the newest does anybody know which one is meant. */
const operationsMax = 20

export type FleetKind = 'hosts' | 'vms' | 'operations'

/** None where there is no scheduler to ask, whatever the reason: a line that is being typed is no place for errors. */
export async function fleetNames(
  kinds: readonly FleetKind[],
  options: Readonly<Record<string, string>>,
  cli: Cli
): Promise<readonly Candidate[]> {
  try {
    using client = new ApiClient(await findConnection(cli, options))
    const signal = AbortSignal.timeout(answerMsMax)
    return (await Promise.all(kinds.map((kind) => asks[kind](client, signal)))).flat()
  } catch {
    return []
  }
}

const asks: {
  readonly [Kind in FleetKind]: (client: ApiClient, signal: AbortSignal) => Promise<Candidate[]>
} = {
  hosts: async (client, signal) => {
    const { hosts } = await client.ask({ method: 'GET', path: '/v1/hosts', signal }, 'HostList')
    return hosts.map(({ id, state }) => ({ value: id, description: state }))
  },
  vms: async (client, signal) => {
    const query = { limit: namesMax }
    const { vms } = await client.ask({ method: 'GET', path: '/v1/vms', query, signal }, 'VmList')
    return vms.map(({ name, state, host }) => ({ value: name, description: `${state} on ${host}` }))
  },
  operations: async (client, signal) => {
    const query = { limit: operationsMax, looks: 'false' }
    const request = { method: 'GET', path: '/v1/operations', query, signal } as const
    const { operations } = await client.ask(request, 'OperationList')
    return operations.map(({ id, verb, vm, host, state }) => ({
      value: id,
      description: `${verb} ${vm ?? `on ${host}`}, ${state}`
    }))
  }
}
