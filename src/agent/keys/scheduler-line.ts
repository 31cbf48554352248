// The way to the scheduler, for parts that are made before there is a session.

import type { AgentMessage } from '../../protocol/messages.ts'
import type { SchedulerLine } from './key-requests.ts'

export class LateLine implements SchedulerLine {
  #line: SchedulerLine | undefined

  attach(line: SchedulerLine): void {
    this.#line = line
  }

  isOnline(): boolean {
    return this.#line?.isOnline() === true
  }

  post(message: AgentMessage): void {
    this.#line?.post(message)
  }
}
