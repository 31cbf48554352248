// How the guests of the hypervisor in memory behave, until a test says otherwise, and what it says of itself.

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

export const memoryFacts = {
  libvirtVersion: '9.0.0',
  hypervisorVersion: '7.2.0',
  accelerator: 'tcg',
  architecture: 'x86_64'
} as const
