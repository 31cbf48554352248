// vm.reimage: a new root disk from another image, and the old one back if the VM is not ready with it in time.

import { VmReimageParams, VmReimageResult } from '../../protocol/lifecycle.ts'
import type { Host } from '../host/host.ts'
import { reimageSteps } from '../lifecycle/reimage.ts'
import { defineVerb } from '../operations/verb.ts'
import { planReimage } from '../plans/changing.ts'
import type { VerbDocument } from './document.ts'
import { checkVm, requireVm } from './subject.ts'

/** For the image and the disk; the time to switch off and to become ready comes on top. */
const makeMs = 1_800_000

export const vmReimage = defineVerb<Host>()({
  name: 'vm.reimage',
  summary:
    'Gives a VM a new root disk made of another image; its data disk and address stay. It gets its old root disk back if it is not ready in time.',
  lock: 'vm',
  backups: 'wait',
  changes: true,
  cancellable: true,
  deadlineMs: makeMs,
  afterCrash: 'resume',
  params: VmReimageParams,
  result: VmReimageResult,
  deadline: ({ readyWithinMs }) => makeMs + (readyWithinMs ?? 0),

  async check({ vm, image, seed }, host, operation) {
    const { specification } = await checkVm(vm, host, operation)
    host.placements.profile(specification.profile)
    // Opened once before anything is done: what cannot be is told at once.
    if (seed !== undefined) await host.secrets.userDataOf({ ...specification, image, seed })
  },

  steps: reimageSteps,

  plan: planReimage,

  async outcome({ vm }, host, operation) {
    const record = await requireVm(vm, host, operation)
    const { specification, placement } = record
    return { vm: host.vms.summary(record), image: specification.image, rootDisk: placement.rootVolume }
  }
})

export const document: VerbDocument = {
  errors: {
    E_BAD_REQUEST:
      'an argument is wrong, the user data is not encrypted or is sealed for another VM or image, or the image is not of its format, has a backing file, is encrypted, or is larger than the root disk',
    E_NOT_FOUND: 'the VM is not defined on this host, or the image does not exist at its address',
    E_CONFLICT:
      "the name belongs to another VM or to a domain that is not hostlet's, or the VM was torn down and is only kept",
    E_STALE:
      'the VM has carried out a newer command, or the user data is sealed for a key that the host does not have',
    E_AUTH: 'the image file is outside of the directories that the host allows, or its server wants a login',
    E_CAPACITY: 'no room for the image or the disk, or no memory to start the VM',
    E_UNAVAILABLE:
      'the image cannot be fetched now, libvirt is away, or the VM was not ready in time: it has its old root disk back',
    E_CORRUPT: 'the image has another SHA-256 than the command says',
    E_TIMEOUT: 'it took longer than its deadline; it was undone',
    E_CANCELLED: 'it was cancelled; it was undone'
  },
  crash:
    'Runs on from the last step that was done. Until the VM is ready with the new root disk the old one is there, and comes back when a step fails.',
  remarks: [
    'The new root disk is made while the VM runs; it is switched off only then.',
    'What was on the root disk is gone afterwards, and the key of an encrypted one is destroyed. Back the VM up first where it may be wanted again.',
    'The VM runs afterwards, also one that was off before: whether it is ready cannot be known otherwise. Where it fails, one that was off is off again.',
    'Ready is what the specification says: an address that is taken after the start, and the port or HTTP path that it names. `readyWithinMs` allows it more or less time.',
    'The seed is written anew: host name and SSH keys as they were asked for, and what `seed` says besides. User data is not kept on the host: give it again where the image needs it.',
    'The next backup reads all disks and says why: what changed since the last one is not known of a new disk.'
  ],
  example: {
    vm: 'web-1',
    image: {
      url: 'https://images.example.org/debian-13.qcow2',
      sha256: '8f43f1b5a3f52a8f0e9f4f0a1f5e2a4a0f1d6f1c2b3a49586776655443322110',
      format: 'qcow2'
    },
    readyWithinMs: 120_000
  }
}
