// The declared procedures and events that these tests do not exercise, each with the reason.

const newer = 'newer than libvirt 9.0'
const needsGuest = 'only the operating system of a guest can cause it'
const needsUdev = 'needs a running udev'

export const notExercised: Readonly<Record<string, string>> = {
  authPolkit: 'root is let through without asking',
  networkGetMetadata: newer,
  networkSetMetadata: newer
}

export const notSeen: Readonly<Record<string, string>> = {
  connectEventConnectionClosed: 'no driver here has a hypervisor behind the daemon that could go away',
  domainEventAgentLifecycle: needsGuest,
  domainEventBalloonChange: needsGuest,
  domainEventControlError: 'needs a QEMU whose monitor breaks',
  domainEventDeviceRemovalFailed: needsGuest,
  domainEventMemoryDeviceSizeChange: needsGuest,
  domainEventMemoryFailure: 'needs a memory error of the host',
  domainEventNicMacChange: newer,
  domainEventPmSuspend: needsGuest,
  domainEventPmSuspendDisk: needsGuest,
  domainEventPmWakeup: needsGuest,
  domainEventRtcChange: needsGuest,
  domainEventWatchdog: needsGuest,
  networkEventMetadataChange: newer,
  nodeDeviceEventLifecycle: needsUdev,
  nodeDeviceEventUpdate: needsUdev
}
