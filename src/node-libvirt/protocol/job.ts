// Declares the procedures of a domain's long job (backup, save, dump): how far it is, and ending it.

import { array, int, nothing, struct, typedParameter, uhyper } from '../xdr/schema.ts'
import { JOB_STATS_PARAMETERS_MAX } from './limits.ts'
import { domainFlags, domainOnly } from './objects.ts'
import { procedure } from './procedure.ts'

/** `type` is one of `jobType`. */
export const domainGetJobInfo = procedure(
  163,
  domainOnly,
  struct({
    type: int,
    timeElapsedMs: uhyper,
    timeRemainingMs: uhyper,
    dataTotalBytes: uhyper,
    dataProcessedBytes: uhyper,
    dataRemainingBytes: uhyper,
    memoryTotalBytes: uhyper,
    memoryProcessedBytes: uhyper,
    memoryRemainingBytes: uhyper,
    fileTotalBytes: uhyper,
    fileProcessedBytes: uhyper,
    fileRemainingBytes: uhyper
  })
)
/** `flags`: `jobStatisticsFlag`; completed asks for the last job that ended, once. Names: `jobParameter`. */
export const domainGetJobStats = procedure(
  298,
  domainFlags,
  struct({ type: int, parameters: array(typedParameter, JOB_STATS_PARAMETERS_MAX) })
)
/** For a pull-mode backup this is the regular end. */
export const domainAbortJob = procedure(164, domainOnly, nothing)
export const domainAbortJobFlags = procedure(442, domainFlags, nothing)
