// How the guests of the hypervisor in memory behave, until a test says otherwise.

export interface MemoryGuests {
  takesLease: boolean
  obeysPowerButton: boolean
  obeysReboot: boolean
  /** Of a machine that is on. */
  agent: 'none' | 'away' | 'connected'
}

/** Ready at once, and obedient. */
export function willingGuests(): MemoryGuests {
  return { takesLease: true, obeysPowerButton: true, obeysReboot: true, agent: 'connected' }
}
