// The process that agents live in until it is killed.

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { FromAgents } from './calls.ts'
import type { End, Run } from './run.ts'

const patienceMs = 90_000

export class AgentProcess {
  readonly #child: ChildProcess
  readonly #runs = new Map<string, Run>()
  readonly #gone: Promise<unknown>
  /** Faults of no agent in particular. */
  readonly faults: string[] = []

  constructor(fixturePath: string) {
    this.#child = fork(join(import.meta.dirname, 'agents-child.ts'), [fixturePath], {
      serialization: 'advanced'
    })
    this.#gone = once(this.#child, 'disconnect')
    this.#child.on('message', (message: FromAgents) => this.#take(message))
  }

  async start(run: Run, at?: number): Promise<End> {
    this.#runs.set(run.name, run)
    const late = setTimeout(() => run.giveUp(`no end within ${patienceMs} ms`), patienceMs)
    try {
      return await run.start((message) => this.#child.connected && this.#child.send(message), at)
    } finally {
      clearTimeout(late)
    }
  }

  /** With SIGKILL. Resolves when nothing of it is left but what it did. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#gone
    await Promise.all([...this.#runs.values()].map((run) => run.left()))
  }

  #take(message: FromAgents): void {
    if (message.agent === '') this.faults.push(JSON.stringify(message))
    else this.#runs.get(message.agent)?.take(message)
  }
}
