// Declares the procedures that read counters of domains: all at once, or one by one.

import {
  array,
  hyper,
  type Infer,
  int,
  nothing,
  struct,
  typedParameter,
  uhyper,
  uint
} from '../xdr/schema.ts'

import {
  BLOCK_STATS_PARAMETERS_MAX,
  CPU_STATS_PARAMETERS_MAX,
  DOMAIN_MEMORY_STATS_MAX,
  DOMAIN_STATS_PARAMETERS_MAX,
  DOMAINS_MAX
} from './limits.ts'
import { domain, high, text } from './objects.ts'
import { procedure } from './procedure.ts'

export const domainStatistics = struct({
  domain,
  parameters: array(typedParameter, DOMAIN_STATS_PARAMETERS_MAX)
})
export type DomainStatistics = Infer<typeof domainStatistics>

/**
 * Statistics of many domains in one reply. `domains` empty means all that `flags` (`statisticsFlag`) lets
 * through; `groups` is a union of `statisticsGroup`, 0 for all that the driver has. With
 * `statisticsFlag.noWait` a domain whose QEMU is busy or frozen is answered with what needs no monitor.
 * Field names: libvirt virConnectGetAllDomainStats.
 */
export const connectGetAllDomainStats = procedure(
  344,
  struct({ domains: array(domain, DOMAINS_MAX), groups: uint, flags: uint }),
  struct({ statistics: array(domainStatistics, DOMAINS_MAX) })
)

/** Counters of one disk; -1 where the hypervisor has none. An empty `path` sums all disks. */
export const domainBlockStats = procedure(
  64,
  struct({ domain, path: text }),
  struct({ readRequests: hyper, readBytes: hyper, writeRequests: hyper, writeBytes: hyper, errors: hyper })
)
/** As `domainBlockStats`, with times and flushes; names: `blockStatisticsParameter`. */
export const domainBlockStatsFlags = procedure(
  243,
  struct({ domain, path: text, parametersMax: int, flags: uint }),
  struct({ parameters: array(typedParameter, BLOCK_STATS_PARAMETERS_MAX), count: int })
)
/**
 * Counters of the host's end of an interface; -1 where there is none. `device` is its name there or the
 * MAC.
 */
export const domainInterfaceStats = procedure(
  65,
  struct({ domain, device: text }),
  struct({
    receivedBytes: hyper,
    receivedPackets: hyper,
    receiveErrors: hyper,
    receiveDrops: hyper,
    sentBytes: hyper,
    sentPackets: hyper,
    sendErrors: hyper,
    sendDrops: hyper
  }),
  high
)
/** `tag` is one of `memoryStatisticsTag`, `value` in KiB, or a count, or seconds, as the tag says. */
export const domainMemoryStats = procedure(
  159,
  struct({ domain, statisticsMax: uint, flags: uint }),
  struct({ statistics: array(struct({ tag: int, value: uhyper }), DOMAIN_MEMORY_STATS_MAX) })
)
/**
 * CPU time by host CPU: `parametersMax` values for each of `cpus` CPUs from `startCpu`; `startCpu` -1 with
 * `cpus` 1 asks for the totals, `parametersMax` 0 for the count.
 */
export const domainGetCpuStats = procedure(
  262,
  struct({ domain, parametersMax: uint, startCpu: int, cpus: uint, flags: uint }),
  struct({ parameters: array(typedParameter, CPU_STATS_PARAMETERS_MAX), count: int })
)
/** Measures for `seconds` how much memory the guest writes; the result is in the `dirtyRate` group. */
export const domainStartDirtyRateCalc = procedure(427, struct({ domain, seconds: int, flags: uint }), nothing)
