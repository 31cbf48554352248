// Small faults, put into the product on purpose, to see that the worlds find each of them. One a process.

import { CommandVerifier } from '../../src/agent/operations/command-verifier.ts'
import { AgentDatabase } from '../../src/agent/operations/database.ts'
import { Dispatcher } from '../../src/agent/operations/dispatch.ts'
import { Journal } from '../../src/agent/operations/journal.ts'
import { Trail } from '../../src/agent/trail/trail.ts'
import { vmProvision } from '../../src/agent/verbs/vm-provision.ts'
import { vmReboot } from '../../src/agent/verbs/vm-reboot.ts'
import { KeyedLock } from '../../src/lib/keyed-lock.ts'
import { CommandTable } from '../../src/scheduler/store/command-table.ts'

export interface Mutation {
  /** What is wrong, as one would write it in a bug report. */
  readonly fault: string
  /** The first world that is looked at, where those that notice it are rare. */
  readonly from?: number
  apply(): void
}

// biome-ignore lint/suspicious/noExplicitAny: what is declared read-only is changed here on purpose.
type Open = any

export const mutations: Readonly<Record<string, Mutation>> = {
  'ack-before-durable': {
    fault: 'commands are acknowledged before the disk has them',
    apply: () => {
      AgentDatabase.prototype.durable = async () => undefined
    }
  },
  'step-before-durable': {
    fault: 'what a command does begins before the disk has the command',
    apply: () => {
      const durable = Journal.prototype.durable
      Journal.prototype.durable = function () {
        const caller = new Error().stack ?? ''
        return caller.includes('operations/engine.ts') ? Promise.resolve() : durable.call(this)
      }
    }
  },
  'trail-behind': {
    fault: 'commands are taken and ended before the audit trail has it on the disk',
    apply: () => {
      const note = Trail.prototype.note
      Trail.prototype.note = async function (...values) {
        note.apply(this, values).catch(() => undefined)
      }
    }
  },
  'signature-unchecked': {
    fault: 'any signature will do',
    apply: () => {
      const { subtle } = globalThis.crypto
      Object.assign(subtle, { verify: async () => true })
    }
  },
  'audience-unchecked': {
    fault: 'commands for other hosts are taken',
    apply: () => {
      const verify = CommandVerifier.prototype.verify
      CommandVerifier.prototype.verify = async function (jws) {
        return await verify.call(this, jws).catch((error) => {
          if (error.details?.reason !== 'audience') throw error
          const payload = Buffer.from(jws.split('.')[1] ?? '', 'base64url')
          return { claims: JSON.parse(payload.toString()), digest: 'foreign', signer: 'key' } as Open
        })
      }
    }
  },
  'expiry-unchecked': {
    fault: 'expired commands are taken',
    apply: () => {
      CommandVerifier.prototype.checkTime = () => undefined
    }
  },
  'repeats-unnoticed': {
    fault: 'a repeated id is taken for a new command',
    apply: () => {
      const find = Journal.prototype.find
      Journal.prototype.find = function (id) {
        const caller = new Error().stack ?? ''
        return caller.includes('#repeated') ? undefined : find.call(this, id)
      }
    }
  },
  'results-told-once': {
    fault: 'a result that was lost on its way is not sent again',
    apply: () => {
      Journal.prototype.unacknowledged = () => []
    }
  },
  'nothing-resumed': {
    fault: 'what a killed agent left unfinished stays so',
    apply: () => {
      Dispatcher.prototype.resume = () => undefined
    }
  },
  'nothing-undone': {
    fault: 'a provision that fails undoes nothing',
    apply: () => {
      const open = vmProvision as Open
      const { steps } = vmProvision
      open.steps = (...values: Parameters<typeof steps>) =>
        steps(...values).map(({ undo: _undo, ...step }) => step)
    }
  },
  'reboot-resumed': {
    fault: 'a reboot is carried out again after a crash',
    from: 751,
    apply: () => {
      const open = vmReboot as Open
      open.afterCrash = 'resume'
    }
  },
  'locks-open': {
    fault: 'operations on one VM run at once',
    apply: () => {
      const acquire = KeyedLock.prototype.acquire
      KeyedLock.prototype.acquire = async function (key, signal) {
        return key.startsWith('vm:')
          ? { [Symbol.asyncDispose]: async () => undefined }
          : acquire.call(this, key, signal)
      }
    }
  },
  'results-replaced': {
    fault: 'the scheduler lets a timeout of its own replace a result',
    apply: () => {
      const finished = CommandTable.prototype.finished
      CommandTable.prototype.finished = async function (host, result, ...rest) {
        const flipped =
          result.outcome === 'done' ? ({ ...result, outcome: 'failed', value: undefined } as Open) : result
        return await finished.call(this, host, flipped, ...rest)
      }
    }
  }
}
