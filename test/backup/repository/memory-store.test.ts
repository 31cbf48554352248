// The store of other tests is as honest as the real ones.

import { MemoryStore } from '../../support/memory-store.ts'
import { objectStoreContract } from './store.contract.ts'

objectStoreContract('a store in memory', { open: async () => new MemoryStore(), conditionalWrites: true })
objectStoreContract('a store in memory without conditional writes', {
  open: async () => new MemoryStore({ conditionalWrites: false }),
  conditionalWrites: false
})
