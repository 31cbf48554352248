// Writes down that a VM is to stay off: before its power goes where it can be written then, and afterwards otherwise.

import { asHostletError } from '../../errors.ts'
import type { Host } from '../host/host.ts'
import type { VmChange } from '../host/hypervisor.ts'
import type { Operation } from '../operations/verb.ts'
import { subjectOf } from '../verbs/subject.ts'

/** What the operation has its VM's metadata say: off from its generation on. */
export function offSince(operation: Operation, vm: string): VmChange {
  return { generation: subjectOf(operation, vm).generation, wanted: 'stopped' }
}

/**
 * libvirt changes nothing of a domain, its definition neither, while another call waits for its QEMU: one that stands still
 * has the metadata wait until its power is cut. Returns whether it is written; the power must not wait for that. Whoever
 * goes on without calls `writeLate` once the power is cut. Throws what `annotate` throws, but no time-out of libvirt's.
 */
export async function writeEarly(
  host: Host,
  vm: string,
  change: VmChange,
  operation: Operation
): Promise<{ written: boolean }> {
  try {
    await host.hypervisor.annotate(vm, change, operation)
    return { written: true }
  } catch (thrown) {
    operation.signal.throwIfAborted()
    const error = asHostletError(thrown)
    if (error.code !== 'E_TIMEOUT') throw error
    operation.log.warn(
      { vm, error },
      'the metadata of a VM cannot be written: that waits until its power is cut'
    )
    return { written: false }
  }
}

/** What `writeEarly` could not write. Once more where an agent before this one was killed in between. */
export async function writeLate(
  host: Host,
  vm: string,
  change: VmChange,
  operation: Operation
): Promise<void> {
  if (operation.notes.written !== true) await host.hypervisor.annotate(vm, change, operation)
}
