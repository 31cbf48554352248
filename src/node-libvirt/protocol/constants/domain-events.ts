// Names the numbers that events of domains carry (libvirt-domain.h).

/** virDomainEventType: what happened in a lifecycle event. */
export const domainEventType = {
  defined: 0,
  undefined: 1,
  started: 2,
  suspended: 3,
  resumed: 4,
  stopped: 5,
  shutdown: 6,
  pmSuspended: 7,
  crashed: 8
} as const

/** How it happened, by the key of `domainEventType`. */
export const domainEventDetail = {
  defined: { added: 0, updated: 1, renamed: 2, fromSnapshot: 3 },
  undefined: { removed: 0, renamed: 1 },
  started: { booted: 0, migrated: 1, restored: 2, fromSnapshot: 3, wakeup: 4 },
  suspended: {
    paused: 0,
    migrated: 1,
    ioError: 2,
    watchdog: 3,
    restored: 4,
    fromSnapshot: 5,
    apiError: 6,
    postcopy: 7,
    postcopyFailed: 8
  },
  resumed: { unpaused: 0, migrated: 1, fromSnapshot: 2, postcopy: 3, postcopyFailed: 4 },
  stopped: { shutdown: 0, destroyed: 1, crashed: 2, migrated: 3, saved: 4, failed: 5, fromSnapshot: 6 },
  shutdown: { finished: 0, guest: 1, host: 2 },
  pmSuspended: { memory: 0, disk: 1 },
  crashed: { panicked: 0, crashLoaded: 1 }
} as const

export const watchdogAction = {
  none: 0,
  pause: 1,
  reset: 2,
  powerOff: 3,
  shutdown: 4,
  debug: 5,
  injectNmi: 6
} as const
/** What became of the guest after an I/O error: nothing, paused, or the error was passed to it. */
export const ioErrorAction = { none: 0, pause: 1, report: 2 } as const
export const trayChangeReason = { open: 0, close: 1 } as const
export const diskChangeReason = { missingOnStart: 0, dropMissingOnStart: 1 } as const
export const agentState = { connected: 1, disconnected: 2 } as const
export const agentStateReason = { unknown: 0, domainStarted: 1, channel: 2 } as const
export const memoryFailureRecipient = { hypervisor: 0, guest: 1 } as const
export const memoryFailureAction = { ignore: 0, inject: 1, fatal: 2, reset: 3 } as const
export const memoryFailureFlag = { actionRequired: 1, recursive: 2 } as const
export const blockJobStatus = { completed: 0, failed: 1, canceled: 2, ready: 3 } as const
