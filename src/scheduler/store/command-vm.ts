// What commands do to the records of VMs: a new one makes or changes a record, an ended one may drop it. Inside the command's transaction.

import { HostletError } from '../../errors.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import { isConstraintFault, type Sqlite } from './sqlite.ts'
import type { NewCommand, VmConsequence } from './store.ts'

export function applyIntent(sqlite: Sqlite, command: NewCommand): void {
  const { vm, intent } = command
  if (vm === undefined) return
  if (intent.kind === 'create') insertVm(sqlite, command, intent.specification)
  else changeVm(sqlite, command.id, { ...vm, wanted: intent.kind === 'want' ? intent.wanted : null })
}

/** The VM of an ended command, as its consequence says. */
export function applyConsequence(sqlite: Sqlite, command: string, consequence: VmConsequence): void {
  if (consequence === 'none') return
  const subject = sqlite.get<{ host: string; vm: string | null; vm_uuid: string | null }>(
    'SELECT host, vm, vm_uuid FROM commands WHERE id = :command',
    { command }
  )
  if (subject === undefined || subject.vm === null || subject.vm_uuid === null) return
  const { host, vm: name, vm_uuid: uuid } = subject
  const isReported = sqlite.get(
    'SELECT 1 FROM vm_reports WHERE host = :host AND uuid = :uuid AND present = 1',
    {
      host,
      uuid
    }
  )
  if (consequence === 'forget' || isReported === undefined) dropVm(sqlite, { name, host, uuid })
}

/** The VM's record and what was last said of it. Its generation stays: a later VM of the name goes on above it. */
export function dropVm(sqlite: Sqlite, vm: { name: string; host: string; uuid: string }): void {
  const { name, host, uuid } = vm
  sqlite.run('DELETE FROM vms WHERE name = :name AND uuid = :uuid', { name, uuid })
  sqlite.run('DELETE FROM vm_reports WHERE host = :host AND uuid = :uuid', { host, uuid })
}

function changeVm(
  sqlite: Sqlite,
  command: string,
  vm: { name: string; uuid: string; generation: number; wanted: 'running' | 'stopped' | null }
): void {
  const changes = sqlite.run(
    `UPDATE vms SET operation = :command, wanted = coalesce(:wanted, wanted), generation = max(generation, :generation)
     WHERE name = :name AND uuid = :uuid`,
    { ...vm, command }
  )
  if (changes > 0) return
  throw new HostletError(
    'E_NOT_FOUND',
    `VM ${vm.name} is gone. See "hostlet vm ls" for those that there are.`
  )
}

function insertVm(sqlite: Sqlite, command: NewCommand, specification: VmSpecification): void {
  const { name, uuid, profile, cpus, memoryBytes } = specification
  try {
    sqlite.run(
      `INSERT INTO vms (name, uuid, host, wanted, generation, profile, cpus, memory_bytes, created_at, specification,
         operation)
       VALUES (:name, :uuid, :host, 'running', :generation, :profile, :cpus, :memoryBytes, :createdAt, :specification,
         :id)`,
      {
        ...{ name, uuid, profile, cpus, memoryBytes },
        host: command.host,
        generation: command.vm?.generation ?? 1,
        createdAt: command.createdAt,
        specification: JSON.stringify(withoutSecrets(specification)),
        id: command.id
      }
    )
  } catch (error) {
    if (!isConstraintFault(error)) throw error
    throw new HostletError(
      'E_CONFLICT',
      `a VM named ${name} exists already. See "hostlet vm show ${name}", or choose another name.`,
      { cause: error }
    )
  }
}

/** User data may hold passwords. The host keeps what it needs of it; here nobody needs it. */
function withoutSecrets({ seed: _seed, ...rest }: VmSpecification): VmSpecification {
  return rest
}
