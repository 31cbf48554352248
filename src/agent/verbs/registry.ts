// The one list of verbs: what is not here does not exist.

import type { Host } from '../host/host.ts'
import type { Verb } from '../operations/verb.ts'
import { backupExport, document as backupExportDocument } from './backup-export.ts'
import { backupList, document as backupListDocument } from './backup-list.ts'
import { backupPrune, document as backupPruneDocument } from './backup-prune.ts'
import { backupVerify, document as backupVerifyDocument } from './backup-verify.ts'
import type { VerbDocument } from './document.ts'
import { hostClean, document as hostCleanDocument } from './host-clean.ts'
import { hostDrain, document as hostDrainDocument } from './host-drain.ts'
import { hostFacts, document as hostFactsDocument } from './host-facts.ts'
import { hostResume, document as hostResumeDocument } from './host-resume.ts'
import { hostRotateKey, document as hostRotateKeyDocument } from './host-rotate-key.ts'
import { imagePrefetch, document as imagePrefetchDocument } from './image-prefetch.ts'
import { operationCancel, document as operationCancelDocument } from './operation-cancel.ts'
import { operationPlan, document as operationPlanDocument } from './operation-plan.ts'
import { vmAdoptKeys, document as vmAdoptKeysDocument } from './vm-adopt-keys.ts'
import { vmAudit, document as vmAuditDocument } from './vm-audit.ts'
import { vmBackup, document as vmBackupDocument } from './vm-backup.ts'
import { vmBackupSchedule, document as vmBackupScheduleDocument } from './vm-backup-schedule.ts'
import { vmConsole, document as vmConsoleDocument } from './vm-console.ts'
import { vmErase, document as vmEraseDocument } from './vm-erase.ts'
import { vmList, document as vmListDocument } from './vm-list.ts'
import { vmProvision, document as vmProvisionDocument } from './vm-provision.ts'
import { vmReboot, document as vmRebootDocument } from './vm-reboot.ts'
import { vmReimage, document as vmReimageDocument } from './vm-reimage.ts'
import { vmRekey, document as vmRekeyDocument } from './vm-rekey.ts'
import { vmRepair, document as vmRepairDocument } from './vm-repair.ts'
import { vmResize, document as vmResizeDocument } from './vm-resize.ts'
import { vmRestore, document as vmRestoreDocument } from './vm-restore.ts'
import { vmSpecification, document as vmSpecificationDocument } from './vm-specification.ts'
import { vmStart, document as vmStartDocument } from './vm-start.ts'
import { vmState, document as vmStateDocument } from './vm-state.ts'
import { vmStop, document as vmStopDocument } from './vm-stop.ts'
import { vmTeardown, document as vmTeardownDocument } from './vm-teardown.ts'
import { vmUndelete, document as vmUndeleteDocument } from './vm-undelete.ts'

/** Each verb with what its page says of it. */
export const documentedVerbs: readonly { readonly verb: Verb<Host>; readonly document: VerbDocument }[] = [
  { verb: vmProvision, document: vmProvisionDocument },
  { verb: vmStart, document: vmStartDocument },
  { verb: vmStop, document: vmStopDocument },
  { verb: vmReboot, document: vmRebootDocument },
  { verb: vmResize, document: vmResizeDocument },
  { verb: vmReimage, document: vmReimageDocument },
  { verb: vmTeardown, document: vmTeardownDocument },
  { verb: vmUndelete, document: vmUndeleteDocument },
  { verb: vmErase, document: vmEraseDocument },
  { verb: vmRekey, document: vmRekeyDocument },
  { verb: vmAdoptKeys, document: vmAdoptKeysDocument },
  { verb: vmBackup, document: vmBackupDocument },
  { verb: vmRestore, document: vmRestoreDocument },
  { verb: vmBackupSchedule, document: vmBackupScheduleDocument },
  { verb: backupList, document: backupListDocument },
  { verb: backupVerify, document: backupVerifyDocument },
  { verb: backupPrune, document: backupPruneDocument },
  { verb: backupExport, document: backupExportDocument },
  { verb: vmState, document: vmStateDocument },
  { verb: vmSpecification, document: vmSpecificationDocument },
  { verb: vmAudit, document: vmAuditDocument },
  { verb: vmConsole, document: vmConsoleDocument },
  { verb: vmRepair, document: vmRepairDocument },
  { verb: vmList, document: vmListDocument },
  { verb: imagePrefetch, document: imagePrefetchDocument },
  { verb: operationCancel, document: operationCancelDocument },
  { verb: operationPlan, document: operationPlanDocument },
  { verb: hostFacts, document: hostFactsDocument },
  { verb: hostClean, document: hostCleanDocument },
  { verb: hostRotateKey, document: hostRotateKeyDocument },
  { verb: hostDrain, document: hostDrainDocument },
  { verb: hostResume, document: hostResumeDocument }
]

export const verbs: readonly Verb<Host>[] = documentedVerbs.map(({ verb }) => verb)
