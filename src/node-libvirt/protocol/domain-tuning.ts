// Declares the procedures that give a domain its share of the host: memory, CPUs, pinning, weights, limits.
//
// The getters of typed parameters: `parametersMax` 0 asks for the count alone; otherwise the reply's array
// says how many there are, not its `count`. Add `typedParameterFlag.stringOkay` to `flags`, or parameters
// of type string are left out. The setters and getters take `modificationImpact` in `flags`.

import { array, bytes, int, nothing, struct, typedParameter, uhyper, uint } from '../xdr/schema.ts'
import {
  BLKIO_PARAMETERS_MAX,
  BLOCK_IO_TUNE_PARAMETERS_MAX,
  CPU_MAP_BYTES_MAX,
  CPU_MAPS_BYTES_MAX,
  GUEST_VCPU_PARAMETERS_MAX,
  INTERFACE_PARAMETERS_MAX,
  IO_THREAD_PARAMETERS_MAX,
  IO_THREADS_MAX,
  MEMORY_PARAMETERS_MAX,
  NUMA_PARAMETERS_MAX,
  PERF_EVENTS_MAX,
  SCHEDULER_PARAMETERS_MAX,
  VCPUS_MAX
} from './limits.ts'
import { domain, domainFlags, domainOnly, high, optionalText, text } from './objects.ts'
import { procedure } from './procedure.ts'

const getParameters = struct({ domain, parametersMax: int, flags: uint })
const parameters = (countMax: number) => struct({ parameters: array(typedParameter, countMax), count: int })

// Memory.
export const domainGetMaxMemory = procedure(17, domainOnly, struct({ memoryKib: uhyper }), high)
export const domainSetMaxMemory = procedure(30, struct({ domain, memoryKib: uhyper }), nothing, high)
export const domainSetMemory = procedure(31, struct({ domain, memoryKib: uhyper }), nothing)
/**
 * `flags`: `domainMemoryFlag`. Live, it sets the balloon's target, which the guest may take its time to
 * reach.
 */
export const domainSetMemoryFlags = procedure(
  204,
  struct({ domain, memoryKib: uhyper, flags: uint }),
  nothing
)
/** How often the balloon reports the guest's memory; 0 turns it off. */
export const domainSetMemoryStatsPeriod = procedure(
  308,
  struct({ domain, periodSeconds: int, flags: uint }),
  nothing
)
/** Limits in KiB of QEMU as a whole; names: `memoryParameter`. */
export const domainGetMemoryParameters = procedure(198, getParameters, parameters(MEMORY_PARAMETERS_MAX))
export const domainSetMemoryParameters = procedure(
  197,
  struct({ domain, parameters: array(typedParameter, MEMORY_PARAMETERS_MAX), flags: uint }),
  nothing
)
export const domainGetNumaParameters = procedure(255, getParameters, parameters(NUMA_PARAMETERS_MAX))
export const domainSetNumaParameters = procedure(
  254,
  struct({ domain, parameters: array(typedParameter, NUMA_PARAMETERS_MAX), flags: uint }),
  nothing
)

// Virtual CPUs.
export const domainGetMaxVcpus = procedure(18, domainOnly, struct({ vcpusMax: int }), high)
export const domainSetVcpus = procedure(32, struct({ domain, vcpus: uint }), nothing)
/** `flags`: `domainVcpuFlag`. */
export const domainSetVcpusFlags = procedure(199, struct({ domain, vcpus: uint, flags: uint }), nothing)
export const domainGetVcpusFlags = procedure(200, domainFlags, struct({ vcpus: int }))
/** `vcpus` is a list such as `1-3,^2`. `state` 1 plugs them in, 0 out. */
export const domainSetVcpu = procedure(384, struct({ domain, vcpus: text, state: int, flags: uint }), nothing)
/** As seen by the guest, through its agent. */
export const domainGetGuestVcpus = procedure(
  371,
  domainFlags,
  struct({ parameters: array(typedParameter, GUEST_VCPU_PARAMETERS_MAX) })
)
/**
 * Where each vCPU runs; `state` is one of `vcpuState`, `cpu` the host CPU or `vcpuHostCpu`. `cpuMaps`
 * holds `mapBytes` bytes for each of `vcpusMax`. Only for a running domain.
 */
export const domainGetVcpus = procedure(
  20,
  struct({ domain, vcpusMax: int, mapBytes: int }),
  struct({
    vcpus: array(struct({ number: uint, state: int, cpuTimeNs: uhyper, cpu: int }), VCPUS_MAX),
    cpuMaps: bytes(CPU_MAPS_BYTES_MAX)
  }),
  high
)

// Pinning. A CPU map has one bit a host CPU, lowest bit of the first byte first.
export const domainPinVcpu = procedure(
  26,
  struct({ domain, vcpu: uint, cpuMap: bytes(CPU_MAP_BYTES_MAX) }),
  nothing
)
export const domainPinVcpuFlags = procedure(
  225,
  struct({ domain, vcpu: uint, cpuMap: bytes(CPU_MAP_BYTES_MAX), flags: uint }),
  nothing
)
/** `cpuMaps` holds `mapBytes` bytes for each of `mapsMax` vCPUs; the first `count` have one. */
export const domainGetVcpuPinInfo = procedure(
  230,
  struct({ domain, mapsMax: int, mapBytes: int, flags: uint }),
  struct({ cpuMaps: bytes(CPU_MAPS_BYTES_MAX), count: int })
)
/** QEMU's other threads. */
export const domainPinEmulator = procedure(
  279,
  struct({ domain, cpuMap: bytes(CPU_MAP_BYTES_MAX), flags: uint }),
  nothing
)
/** `pinned` is 0 where no map is set, 1 otherwise. */
export const domainGetEmulatorPinInfo = procedure(
  280,
  struct({ domain, mapBytes: int, flags: uint }),
  struct({ cpuMaps: bytes(CPU_MAPS_BYTES_MAX), pinned: int })
)

// I/O threads.
export const domainGetIoThreadInfo = procedure(
  351,
  domainFlags,
  struct({
    ioThreads: array(struct({ id: uint, cpuMap: bytes(CPU_MAP_BYTES_MAX) }), IO_THREADS_MAX),
    count: uint
  })
)
export const domainAddIoThread = procedure(355, struct({ domain, id: uint, flags: uint }), nothing)
export const domainDelIoThread = procedure(356, struct({ domain, id: uint, flags: uint }), nothing)
export const domainPinIoThread = procedure(
  352,
  struct({ domain, id: uint, cpuMap: bytes(CPU_MAP_BYTES_MAX), flags: uint }),
  nothing
)
export const domainSetIoThreadParams = procedure(
  402,
  struct({ domain, id: uint, parameters: array(typedParameter, IO_THREAD_PARAMETERS_MAX), flags: uint }),
  nothing
)

// CPU time: shares, periods and quotas in microseconds; names: `schedulerParameter`.
/** `count` is the capacity that the getters below want. */
export const domainGetSchedulerType = procedure(56, domainOnly, struct({ type: text, count: int }))
export const domainGetSchedulerParameters = procedure(
  57,
  struct({ domain, parametersMax: int }),
  struct({ parameters: array(typedParameter, SCHEDULER_PARAMETERS_MAX) })
)
export const domainSetSchedulerParameters = procedure(
  58,
  struct({ domain, parameters: array(typedParameter, SCHEDULER_PARAMETERS_MAX) }),
  nothing
)
export const domainGetSchedulerParametersFlags = procedure(
  223,
  getParameters,
  struct({ parameters: array(typedParameter, SCHEDULER_PARAMETERS_MAX) })
)
export const domainSetSchedulerParametersFlags = procedure(
  219,
  struct({ domain, parameters: array(typedParameter, SCHEDULER_PARAMETERS_MAX), flags: uint }),
  nothing
)

// Disk I/O, through the host's cgroups (blkio) or in QEMU (I/O tune: `blockIoTuneParameter`, where 0 is no
// limit).
export const domainGetBlkioParameters = procedure(206, getParameters, parameters(BLKIO_PARAMETERS_MAX))
export const domainSetBlkioParameters = procedure(
  205,
  struct({ domain, parameters: array(typedParameter, BLKIO_PARAMETERS_MAX), flags: uint }),
  nothing
)
export const domainGetBlockIoTune = procedure(
  253,
  struct({ domain, disk: optionalText, parametersMax: int, flags: uint }),
  parameters(BLOCK_IO_TUNE_PARAMETERS_MAX)
)
export const domainSetBlockIoTune = procedure(
  252,
  struct({
    domain,
    disk: text,
    parameters: array(typedParameter, BLOCK_IO_TUNE_PARAMETERS_MAX),
    flags: uint
  }),
  nothing
)

// Network bandwidth in KiB/s, bursts in KiB; names: `bandwidthParameter`. `device` is the host's interface
// or the MAC.
export const domainGetInterfaceParameters = procedure(
  257,
  struct({ domain, device: text, parametersMax: int, flags: uint }),
  parameters(INTERFACE_PARAMETERS_MAX)
)
export const domainSetInterfaceParameters = procedure(
  256,
  struct({ domain, device: text, parameters: array(typedParameter, INTERFACE_PARAMETERS_MAX), flags: uint }),
  nothing
)

// Performance counters. Enabling them costs the guest; a parameter is an event's name and whether it is
// counted.
export const domainGetPerfEvents = procedure(
  365,
  domainFlags,
  struct({ parameters: array(typedParameter, PERF_EVENTS_MAX) })
)
export const domainSetPerfEvents = procedure(
  366,
  struct({ domain, parameters: array(typedParameter, PERF_EVENTS_MAX), flags: uint }),
  nothing
)
