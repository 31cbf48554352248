// A thread that carries what lies in the write-ahead log over into the database, with a connection of its own, and ends.

import { DatabaseSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import type { CheckpointOrder, CheckpointReply } from './wal-checkpoints.ts'

const { path, passesMax } = workerData as CheckpointOrder

/** PASSIVE waits for nobody and keeps nobody waiting; commits that come meanwhile are left for the next pass. */
function carryOver(): CheckpointReply {
  const database = new DatabaseSync(path)
  try {
    const pass = database.prepare('PRAGMA wal_checkpoint(PASSIVE)')
    for (let count = 1; ; count++) {
      const { busy, log, checkpointed } = pass.get() ?? {}
      if ((busy === 0 && log === checkpointed) || count >= passesMax)
        return { isComplete: busy === 0 && log === checkpointed }
    }
  } catch (error) {
    const { message, errcode } = error as { message: string; errcode?: number }
    return { isComplete: false, fault: { message, ...(errcode !== undefined && { errcode }) } }
  } finally {
    database.close()
  }
}

parentPort?.postMessage(carryOver())
