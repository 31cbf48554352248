// How long a reply keeps the event loop: the CPU time that the main thread spends in one turn of the loop.

import { type Connection, connectGetAllDomainStats } from 'node-libvirt'

export function statisticsCall(connection: Connection) {
  return connection.call(connectGetAllDomainStats, { domains: [], groups: 0, flags: 0 })
}

/**
 * The longest turn until the work is done. CPU time rather than the clock's, since on a busy machine the longest of
 * hundreds of turns would be one in which another program ran; garbage collection on this thread is part of it.
 */
export async function longestTurnMs(work: () => Promise<unknown>): Promise<number> {
  let longest = 0
  let last = cpuMs()
  let going = true
  const turn = () => {
    const now = cpuMs()
    longest = Math.max(longest, now - last)
    last = now
    if (going) setImmediate(turn)
  }
  setImmediate(turn)
  await work()
  // The turn in which the work ended counts as well.
  await new Promise((resolve) => setImmediate(resolve))
  going = false
  return longest
}

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1_000
}
