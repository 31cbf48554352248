// The worker thread of a backup: serves a block packer.

import { workerData } from 'node:worker_threads'
import { serveTasks } from '../workers/protocol.ts'
import { BlockPacker } from './block-packer.ts'
import type { PackReply, PackRequest } from './pack-messages.ts'

const packer = new BlockPacker(workerData)

serveTasks<PackRequest, PackReply>((request) => {
  const reply = packer.pack(request)
  return { reply, transfer: [reply.buffer] }
})
