// What the seed of a VM says besides what everybody may read of it: opened for the moment in which the seed is written.

import type { VmSpecification } from '../../protocol/vm.ts'
import type { Host } from '../host/host.ts'
import type { SeedContent } from '../host/seed.ts'
import { reachesPackages } from './hardened.ts'

/** The only place where user data is plain text, apart from the seed, which lies in memory too. Throws as Secrets.userDataOf. */
export async function seedContentOf(
  specification: VmSpecification,
  { secrets, config }: Pick<Host, 'secrets' | 'config'>
): Promise<SeedContent> {
  const profile = config.profiles[specification.profile]
  return {
    userData: await secrets.userDataOf(specification),
    packages: profile !== undefined && reachesPackages(specification, profile)
  }
}
