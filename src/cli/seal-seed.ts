// User data on its way to a host that is named: encrypted here, so that the scheduler in between does not see it.

import { randomUUID } from 'node:crypto'
import type { CreateVmRequest } from '../protocol/api.ts'
import { apiPath } from './api-client.ts'
import type { Session } from './client-command.ts'

/** The request with its user data sealed, where the host is named and tells a key; otherwise as it is, for the scheduler to seal. */
export async function sealSeed(request: CreateVmRequest, session: Session): Promise<CreateVmRequest> {
  const { host, specification } = request
  const { userData, ...seed } = specification.seed ?? {}
  if (host === undefined || userData === undefined) return request
  const { client, signal } = session
  const answer = await client.ask({ method: 'GET', path: apiPath('hosts', host), signal }, 'HostDetail')
  const key = answer.host.facts?.secretsKey
  if (key === undefined) return request
  const { sealUserData } = await import('../protocol/sealed-user-data.ts')
  const sealedFor = { vm: randomUUID(), image: specification.image.sha256 }
  const userDataJwe = await sealUserData(userData, key, sealedFor)
  return { ...request, specification: { ...specification, seed: { ...seed, userDataJwe } } }
}
