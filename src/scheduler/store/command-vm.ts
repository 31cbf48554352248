// What commands do to the records of VMs: a new one makes or changes a record, an ended one may drop it. Inside the command's transaction.

import { HostletError } from '../../errors.ts'
import type { PlacementWish } from '../../protocol/placement.ts'
import type { VmResizeResult } from '../../protocol/resize.ts'
import type { ImageReference, VmSpecification, VmSummary } from '../../protocol/vm.ts'
import { isConstraintFault, type Sqlite } from './sqlite.ts'
import type { NewCommand, VmConsequence } from './store.ts'

export function applyIntent(sqlite: Sqlite, command: NewCommand): void {
  const { vm, intent } = command
  if (vm === undefined) return
  if (intent.kind === 'create')
    insertVm(sqlite, command, { ...madeOf(intent.specification), ...wished(intent) })
  else if (intent.kind === 'restore')
    insertVm(sqlite, command, {
      ...madeOf(intent.specification),
      ...restored(command, intent),
      ...wished(intent)
    })
  else changeVm(sqlite, command.id, { ...vm, wanted: intent.kind === 'want' ? intent.wanted : null })
  // Told to remove the VM, the host ends all copies of its keys, also those that a former host of it told of.
  if (command.verb === 'vm.teardown')
    sqlite.run('UPDATE disk_keys SET host = :host WHERE uuid = :uuid AND removed_at IS NULL', {
      host: command.host,
      uuid: vm.uuid
    })
}

/** The VM of an ended command, as its consequence says. */
export function applyConsequence(sqlite: Sqlite, command: string, consequence: VmConsequence): void {
  if (consequence === 'none') return
  const subject = sqlite.get<{ verb: string; host: string; vm: string | null; vm_uuid: string | null }>(
    'SELECT verb, host, vm, vm_uuid FROM commands WHERE id = :command',
    { command }
  )
  if (subject === undefined || subject.vm === null || subject.vm_uuid === null) return
  const { host, vm: name, vm_uuid: uuid } = subject
  // A VM that was there before the restore into it failed stays.
  if (subject.verb === 'vm.restore' && !isMadeBy(sqlite, uuid, command)) return
  const isReported = sqlite.get(
    'SELECT 1 FROM vm_reports WHERE host = :host AND uuid = :uuid AND present = 1',
    {
      host,
      uuid
    }
  )
  if (consequence === 'forget' || isReported === undefined) dropVm(sqlite, { name, host, uuid })
}

/** A VM that was made of a backup is what its host says it is: the backup's specification may not have been known here. */
export function applyRestored(
  sqlite: Sqlite,
  command: string,
  { uuid, profile, cpus, memoryBytes }: VmSummary
): void {
  sqlite.run(
    'UPDATE vms SET profile = :profile, cpus = :cpus, memory_bytes = :memoryBytes WHERE uuid = :uuid AND restored_by = :command',
    { uuid, profile, cpus, memoryBytes, command }
  )
}

/** What its host says that it made of a VM; the specification, where it is known here, says the same from then on. */
export function applySizes(sqlite: Sqlite, command: string, sizes: VmResizeResult['sizes']): void {
  const { cpus, memoryBytes } = sizes
  sqlite.run(
    `UPDATE vms SET cpus = :cpus, memory_bytes = :memoryBytes, specification = json_patch(specification, :sizes)
     WHERE uuid = (SELECT vm_uuid FROM commands WHERE id = :command)`,
    { cpus, memoryBytes, sizes: JSON.stringify(sizes), command }
  )
}

/** The root disk is made of another image from now on, and the VM runs. */
export function applyReimaged(sqlite: Sqlite, command: string, image: ImageReference): void {
  sqlite.run(
    `UPDATE vms SET specification = json_set(specification, '$.image', json(:image)), wanted = 'running'
     WHERE uuid = (SELECT vm_uuid FROM commands WHERE id = :command)`,
    { command, image: JSON.stringify(image) }
  )
}

function isMadeBy(sqlite: Sqlite, uuid: string, command: string): boolean {
  const parameters = { uuid, command }
  return (
    sqlite.get('SELECT 1 FROM vms WHERE uuid = :uuid AND restored_by = :command', parameters) !== undefined
  )
}

/** The VM's record and what was last said of it. Its generation stays: a later VM of the name goes on above it. */
export function dropVm(sqlite: Sqlite, vm: { name: string; host: string; uuid: string }): void {
  const { name, host, uuid } = vm
  sqlite.run('DELETE FROM vms WHERE name = :name AND uuid = :uuid', { name, uuid })
  sqlite.run('DELETE FROM vm_reports WHERE host = :host AND uuid = :uuid', { host, uuid })
  sqlite.run('DELETE FROM backup_schedules WHERE uuid = :uuid', { uuid })
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

interface NewVm {
  readonly wanted: 'running' | 'stopped'
  readonly profile: string
  readonly cpus: number
  readonly memoryBytes: number
  readonly specification: string | null
  readonly restoredBy: string | null
  readonly placement: string | null
}

/** Without a specification: nothing is known yet, and its host will tell. */
function madeOf(specification: VmSpecification | undefined): NewVm {
  const { profile = '', cpus = 1, memoryBytes = 0 } = specification ?? {}
  return {
    ...{ wanted: 'running', profile, cpus, memoryBytes, restoredBy: null, placement: null },
    specification: specification === undefined ? null : JSON.stringify(withoutSecrets(specification))
  }
}

function wished({ wish }: { readonly wish?: PlacementWish | undefined }): Pick<NewVm, 'placement'> {
  return { placement: wish === undefined ? null : JSON.stringify(wish) }
}

function restored(
  { id }: NewCommand,
  { profile, wanted }: Restore
): Pick<NewVm, 'profile' | 'wanted' | 'restoredBy'> {
  return { profile, wanted, restoredBy: id }
}

type Restore = Extract<NewCommand['intent'], { kind: 'restore' }>

function insertVm(sqlite: Sqlite, command: NewCommand, made: NewVm): void {
  const { name, uuid, generation } = command.vm ?? { name: '', uuid: '', generation: 1 }
  try {
    sqlite.run(
      `INSERT INTO vms (name, uuid, host, wanted, generation, profile, cpus, memory_bytes, created_at, specification,
         restored_by, placement, operation)
       VALUES (:name, :uuid, :host, :wanted, :generation, :profile, :cpus, :memoryBytes, :createdAt, :specification,
         :restoredBy, :placement, :id)`,
      {
        ...{ name, uuid, generation, ...made },
        host: command.host,
        createdAt: command.createdAt,
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
