// Specifications with user data as a host takes it: sealed for its key.

import { sealUserData } from '../../src/protocol/sealed-user-data.ts'
import type { SecretsKey, Seed, VmSpecification } from '../../src/protocol/vm.ts'

/** The same specification with user data beside what its seed says already. */
export async function withUserData<Specification extends Pick<VmSpecification, 'uuid' | 'image' | 'seed'>>(
  specification: Specification,
  userData: string,
  key: SecretsKey
): Promise<Specification & { seed: Seed }> {
  const { uuid, image, seed } = specification
  const jwe = await sealUserData(userData, key, { vm: uuid, image: image.sha256 })
  return { ...specification, seed: { ...seed, userData: jwe } }
}
