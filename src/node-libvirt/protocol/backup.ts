// Declares the procedures of backup jobs. One job a domain; `job.ts` follows and ends it.

import { nothing, struct, uint } from '../xdr/schema.ts'
import { domain, domainFlags, high, optionalText, text, xmlResult } from './objects.ts'
import { procedure } from './procedure.ts'

/**
 * Starts a backup (libvirt formatbackup) and, where `checkpointXml` is given, makes that checkpoint at the
 * same instant. In pull mode it runs until the job is aborted. `flags`: `backupBeginFlag`.
 */
export const domainBackupBegin = procedure(
  421,
  struct({ domain, backupXml: text, checkpointXml: optionalText, flags: uint }),
  nothing
)
/**
 * The job with what libvirt filled in: socket, export names, scratch files. `noDomainBackup` where none
 * runs.
 */
export const domainBackupGetXmlDesc = procedure(422, domainFlags, xmlResult, high)
