// What an item of the audit is: a promise about one VM, and the answer over facts.

import type { AuditAnswer } from '../../protocol/audit.ts'
import type { AuditFacts } from './facts.ts'
import type { ProcessFacts } from './process.ts'

export interface Answer {
  readonly answer: AuditAnswer
  /** What was seen. */
  readonly why: string
}

export interface Item {
  readonly id: string
  /** The promise, as a few words that "yes" confirms. */
  readonly title: string
  judge(facts: AuditFacts): Answer
}

export function yes(why: string): Answer {
  return { answer: 'yes', why }
}

export function no(why: string): Answer {
  return { answer: 'no', why }
}

export function unknown(why: string): Answer {
  return { answer: 'unknown', why }
}

/** The answer over QEMU's process; unknown where there is none to look at. */
export function ofProcess(facts: AuditFacts, judge: (process: ProcessFacts) => Answer): Answer {
  if (!facts.inspection.running) return unknown('the VM is off')
  if (facts.process === 'hidden')
    return unknown('other processes are hidden from the agent (ProtectProc of its unit)')
  if (facts.process === 'none') return unknown('no process of it was found')
  return judge(facts.process)
}
