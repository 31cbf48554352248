// A hypervisor whose every call goes through a gate: to count them, and to have an agent die at one.

import type { BackupJob } from '../../../src/agent/host/backup-port.ts'
import type { Hypervisor, Wait } from '../../../src/agent/host/hypervisor.ts'

export type Call = () => Promise<unknown>

/** Every call to the hypervisor, and to a backup's job, goes through `gate`. */
export function interposed(hypervisor: Hypervisor, gate: (call: Call) => Promise<unknown>): Hypervisor {
  const notCalls = new Set<PropertyKey>(['open', 'close', 'status', 'onStatus', 'onEvent', 'addStartGate'])
  return new Proxy(hypervisor, {
    get: (on, key) => {
      const value = Reflect.get(on, key, on)
      if (typeof value !== 'function') return value
      if (notCalls.has(key)) return value.bind(on)
      return (...args: unknown[]) => {
        const through = gate(async () => {
          const result = await Reflect.apply(value, on, args)
          return key === 'beginBackup' ? jobThrough(result as BackupJob, gate) : result
        })
        return Promise.race([through, givenUp(args.at(-1))])
      }
    }
  })
}

/** Rejects when the caller gives up: also a call that never returns can be waited for no longer than that. */
function givenUp(wait: unknown): Promise<never> {
  const signal = (wait as Partial<Wait> | undefined)?.signal
  return new Promise((_resolve, reject) => {
    signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}

function jobThrough(job: BackupJob, gate: (call: Call) => Promise<unknown>): BackupJob {
  return {
    ...job,
    end: async (options) => {
      await gate(() => job.end(options))
    }
  }
}
