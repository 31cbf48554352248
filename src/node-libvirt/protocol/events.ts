// Declares the events: for each kind of object how to register and deregister, and what each event id brings.
//
// Every message begins with `callbackId`, which the registration returned. Callback ids of different kinds
// collide: key by kind and id. A message can overtake the reply to its registration.

import {
  array,
  hyper,
  type Infer,
  int,
  nothing,
  optional,
  struct,
  typedParameter,
  uhyper,
  uint
} from '../xdr/schema.ts'
import { JOB_STATS_PARAMETERS_MAX, TUNABLE_PARAMETERS_MAX } from './limits.ts'
import {
  domain,
  high,
  network,
  nodeDevice,
  optionalText,
  storagePool as pool,
  secret,
  text
} from './objects.ts'
import { event, procedure } from './procedure.ts'

const callbackId = int
const registered = struct({ callbackId })
const deregistration = struct({ callbackId })
const lifecycle = { event: int, detail: int }

// A null object asks for the events of all. `eventId` is the `id` in the tables below. A connection may register an
// event for the same object, or for all, only once.
export const connectDomainEventCallbackRegisterAny = procedure(
  316,
  struct({ eventId: int, domain: optional(domain) }),
  registered,
  high
)
export const connectDomainEventCallbackDeregisterAny = procedure(317, deregistration, nothing, high)
export const connectNetworkEventRegisterAny = procedure(
  313,
  struct({ eventId: int, network: optional(network) }),
  registered,
  high
)
export const connectNetworkEventDeregisterAny = procedure(314, deregistration, nothing, high)
export const connectStoragePoolEventRegisterAny = procedure(
  368,
  struct({ eventId: int, pool: optional(pool) }),
  registered,
  high
)
export const connectStoragePoolEventDeregisterAny = procedure(369, deregistration, nothing, high)
export const connectNodeDeviceEventRegisterAny = procedure(
  374,
  struct({ eventId: int, device: optional(nodeDevice) }),
  registered,
  high
)
export const connectNodeDeviceEventDeregisterAny = procedure(375, deregistration, nothing, high)
export const connectSecretEventRegisterAny = procedure(
  380,
  struct({ eventId: int, secret: optional(secret) }),
  registered,
  high
)
export const connectSecretEventDeregisterAny = procedure(381, deregistration, nothing, high)

// Domains. `alias` is libvirt's name of a device inside the domain (`virtio-disk0`).

/** `event` is one of `domainEventType`; `detail` depends on it (`domainEventDetail`). */
export const domainEventLifecycle = event(318, struct({ callbackId, domain, ...lifecycle }))
/** The guest rebooted; the domain went on running. */
export const domainEventReboot = event(319, struct({ callbackId, domain }))
export const domainEventRtcChange = event(320, struct({ callbackId, domain, offsetSeconds: hyper }))
/** `action` is one of `watchdogAction`. */
export const domainEventWatchdog = event(321, struct({ callbackId, domain, action: int }))
/** `action` is one of `ioErrorAction`. */
export const domainEventIoError = event(
  322,
  struct({ callbackId, domain, sourcePath: text, alias: text, action: int })
)
/** As `domainEventIoError`; `reason` is `enospc` or empty. */
export const domainEventIoErrorReason = event(
  324,
  struct({ callbackId, domain, sourcePath: text, alias: text, action: int, reason: text })
)
/** libvirt lost its hold on the domain's QEMU. */
export const domainEventControlError = event(325, struct({ callbackId, domain }))
/** `path` is the source's path; `type` is one of `blockJobType`, `status` one of `blockJobStatus`. */
export const domainEventBlockJob = event(
  326,
  struct({ callbackId, domain, path: text, type: int, status: int })
)
/** As `domainEventBlockJob`, with the target's name (`vda`), which stays the same across a pivot. */
export const domainEventBlockJob2 = event(
  339,
  struct({ callbackId, domain, target: text, type: int, status: int })
)
/** `reason` is one of `diskChangeReason`. */
export const domainEventDiskChange = event(
  327,
  struct({
    callbackId,
    domain,
    oldSourcePath: optionalText,
    newSourcePath: optionalText,
    alias: text,
    reason: int
  })
)
/** `reason` is one of `trayChangeReason`. */
export const domainEventTrayChange = event(328, struct({ callbackId, domain, alias: text, reason: int }))
export const domainEventPmWakeup = event(329, struct({ callbackId, reason: int, domain }))
export const domainEventPmSuspend = event(330, struct({ callbackId, reason: int, domain }))
export const domainEventPmSuspendDisk = event(332, struct({ callbackId, reason: int, domain }))
export const domainEventBalloonChange = event(331, struct({ callbackId, domain, memoryKib: uhyper }))
export const domainEventDeviceRemoved = event(333, struct({ callbackId, domain, alias: text }))
export const domainEventDeviceAdded = event(354, struct({ callbackId, domain, alias: text }))
/** The guest refused to let go of the device. */
export const domainEventDeviceRemovalFailed = event(367, struct({ callbackId, domain, alias: text }))
/** Names: libvirt VIR_DOMAIN_TUNABLE_* (`cputune.vcpupin0`, `blkdeviotune.disk`). */
export const domainEventTunable = event(
  346,
  struct({ callbackId, domain, parameters: array(typedParameter, TUNABLE_PARAMETERS_MAX) })
)
/** `state` is one of `agentState`, `reason` one of `agentStateReason`. */
export const domainEventAgentLifecycle = event(348, struct({ callbackId, domain, state: int, reason: int }))
/** The statistics of the job that ended; names: `jobParameter`. */
export const domainEventJobCompleted = event(
  363,
  struct({ callbackId, domain, parameters: array(typedParameter, JOB_STATS_PARAMETERS_MAX) })
)
/** `type` is one of `metadataType`; `uri` is null but for elements. */
export const domainEventMetadataChange = event(
  379,
  struct({ callbackId, domain, type: int, uri: optionalText })
)
export const domainEventBlockThreshold = event(
  385,
  struct({
    callbackId,
    domain,
    device: text,
    path: optionalText,
    thresholdBytes: uhyper,
    excessBytes: uhyper
  })
)
/** A memory error of the host; `recipient`, `action` and `flags`: `memoryFailure…`. */
export const domainEventMemoryFailure = event(
  423,
  struct({ callbackId, domain, recipient: int, action: int, flags: uint })
)
export const domainEventMemoryDeviceSizeChange = event(
  438,
  struct({ callbackId, domain, alias: text, sizeKib: uhyper })
)
/** Since libvirt 11.2. */
export const domainEventNicMacChange = event(
  453,
  struct({ callbackId, domain, alias: text, oldMac: text, newMac: text })
)

// The other kinds.

/** `event` is one of `networkEventType`. */
export const networkEventLifecycle = event(315, struct({ callbackId, network, ...lifecycle }))
/** Since libvirt 9.8. */
export const networkEventMetadataChange = event(
  446,
  struct({ callbackId, network, type: int, uri: optionalText })
)
/** `event` is one of `poolEventType`. */
export const storagePoolEventLifecycle = event(370, struct({ callbackId, pool, ...lifecycle }))
export const storagePoolEventRefresh = event(373, struct({ callbackId, pool }))
export const nodeDeviceEventLifecycle = event(376, struct({ callbackId, device: nodeDevice, ...lifecycle }))
export const nodeDeviceEventUpdate = event(377, struct({ callbackId, device: nodeDevice }))
/** `event` is one of `secretEventType`. */
export const secretEventLifecycle = event(382, struct({ callbackId, secret, ...lifecycle }))
export const secretEventValueChanged = event(383, struct({ callbackId, secret }))

// Event ids (libvirt virDomainEventID and its kin) and the message that carries each. Graphics (5) and
// migration (20) are left out: we open no screens and do not migrate.

export const domainEvents = {
  lifecycle: { id: 0, message: domainEventLifecycle },
  reboot: { id: 1, message: domainEventReboot },
  rtcChange: { id: 2, message: domainEventRtcChange },
  watchdog: { id: 3, message: domainEventWatchdog },
  ioError: { id: 4, message: domainEventIoError },
  ioErrorReason: { id: 6, message: domainEventIoErrorReason },
  controlError: { id: 7, message: domainEventControlError },
  blockJob: { id: 8, message: domainEventBlockJob },
  diskChange: { id: 9, message: domainEventDiskChange },
  trayChange: { id: 10, message: domainEventTrayChange },
  pmWakeup: { id: 11, message: domainEventPmWakeup },
  pmSuspend: { id: 12, message: domainEventPmSuspend },
  balloonChange: { id: 13, message: domainEventBalloonChange },
  pmSuspendDisk: { id: 14, message: domainEventPmSuspendDisk },
  deviceRemoved: { id: 15, message: domainEventDeviceRemoved },
  blockJob2: { id: 16, message: domainEventBlockJob2 },
  tunable: { id: 17, message: domainEventTunable },
  agentLifecycle: { id: 18, message: domainEventAgentLifecycle },
  deviceAdded: { id: 19, message: domainEventDeviceAdded },
  jobCompleted: { id: 21, message: domainEventJobCompleted },
  deviceRemovalFailed: { id: 22, message: domainEventDeviceRemovalFailed },
  metadataChange: { id: 23, message: domainEventMetadataChange },
  blockThreshold: { id: 24, message: domainEventBlockThreshold },
  memoryFailure: { id: 25, message: domainEventMemoryFailure },
  memoryDeviceSizeChange: { id: 26, message: domainEventMemoryDeviceSizeChange },
  nicMacChange: { id: 27, message: domainEventNicMacChange }
} as const

export const networkEvents = {
  lifecycle: { id: 0, message: networkEventLifecycle },
  metadataChange: { id: 1, message: networkEventMetadataChange }
} as const

export const storagePoolEvents = {
  lifecycle: { id: 0, message: storagePoolEventLifecycle },
  refresh: { id: 1, message: storagePoolEventRefresh }
} as const

export const nodeDeviceEvents = {
  lifecycle: { id: 0, message: nodeDeviceEventLifecycle },
  update: { id: 1, message: nodeDeviceEventUpdate }
} as const

export const secretEvents = {
  lifecycle: { id: 0, message: secretEventLifecycle },
  valueChanged: { id: 1, message: secretEventValueChanged }
} as const

type Payload<E extends { readonly message: { readonly payload: unknown } }> = Infer<E['message']['payload']>
export type DomainEventPayload<Name extends keyof typeof domainEvents> = Payload<(typeof domainEvents)[Name]>
export type NetworkEventPayload<Name extends keyof typeof networkEvents> = Payload<
  (typeof networkEvents)[Name]
>
export type StoragePoolEventPayload<Name extends keyof typeof storagePoolEvents> = Payload<
  (typeof storagePoolEvents)[Name]
>
export type SecretEventPayload<Name extends keyof typeof secretEvents> = Payload<(typeof secretEvents)[Name]>
