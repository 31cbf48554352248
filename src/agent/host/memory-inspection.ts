// What a machine in memory is like: as its XML would say, read the same way.

import { domainXml } from './domain-xml.ts'
import { inspectionIn, type MachineInspection } from './inspection.ts'
import { isOff } from './making.ts'
import type { MemoryVm } from './memory-vm.ts'

const environment = {
  accelerator: 'tcg',
  pool: { name: 'memory', path: '/memory' },
  qemuGid: 64_055,
  consoleDirectory: '/memory/console'
} as const

export function inspectionOf(vm: MemoryVm): MachineInspection {
  return inspectionIn(domainXml(vm.definition, environment), { running: !isOff(vm), autostart: false })
}
