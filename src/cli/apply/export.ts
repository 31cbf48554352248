// A VM that there is as a file that would change nothing of it.

import type { VmSpecificationResult } from '../../protocol/plan.ts'
import type { Manifest } from './schema.ts'
import { backupOf, bytesText, diskLimitsOf, egressText, portTexts, probeText, readyOf } from './texts.ts'

/** Keys in the order in which a person reads them. User data is not known to anybody but the guest. */
export function manifestOf(
  { specification, backupSchedule, vm }: VmSpecificationResult,
  host: string
): Manifest {
  const { name, profile, image, cpus, cpuLimitPercent, memoryBytes, rootDiskBytes } = specification
  const { dataDiskBytes, diskLimits, ready, network, health, consoleLog } = specification
  const { receiveBytesPerSecondMax: receive, transmitBytesPerSecondMax: transmit } = network ?? {}
  return {
    ...{ vm: name, host, profile },
    ...{ image: image.url, sha256: image.sha256, format: image.format, cpus },
    ...(cpuLimitPercent !== undefined && { cpuLimit: cpuLimitPercent }),
    memory: bytesText(memoryBytes),
    disk: bytesText(rootDiskBytes),
    ...(dataDiskBytes !== undefined && { dataDisk: bytesText(dataDiskBytes) }),
    ...(diskLimits !== undefined && { diskLimits: diskLimitsOf(diskLimits) }),
    ...seedOf(specification.seed),
    ...(ready !== undefined && { ready: readyOf(ready) }),
    ...(network?.egress !== undefined && { egress: egressText(network.egress) }),
    ...(network?.dns !== undefined && { dns: network.dns }),
    ...(receive !== undefined && { receiveLimit: bytesText(receive) }),
    ...(transmit !== undefined && { transmitLimit: bytesText(transmit) }),
    ...(network?.ports !== undefined && { ports: portTexts(network.ports) }),
    ...(health !== undefined && { health: health.map(probeText) }),
    ...(consoleLog !== undefined && { consoleLog }),
    ...(backupSchedule !== null && { backup: backupOf(backupSchedule) }),
    wanted: vm.wanted
  }
}

function seedOf(seed: VmSpecificationResult['specification']['seed']): Partial<Manifest> {
  if (seed === undefined) return { seed: false }
  const { hostname, sshAuthorizedKeys, hardened } = seed
  return {
    ...(hostname !== undefined && { hostname }),
    ...(sshAuthorizedKeys !== undefined && { sshKeys: sshAuthorizedKeys }),
    ...(hardened !== undefined && { hardened })
  }
}
