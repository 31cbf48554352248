// The packet filter in memory, held to the contract.

import { MemoryNft } from '../../src/agent/firewall/memory-nft.ts'
import { describeNft } from './nft.contract.ts'

describeNft('in memory', {
  open: async () => ({ nft: new MemoryNft(), table: 'hl-t', dispose: async () => undefined })
})
