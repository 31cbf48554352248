// What first light prints: a line a step with its time, and one clear line when something fails.

import { styleText } from 'node:util'
import { formatDuration } from '../../src/cli/quantities.ts'
import { Missing } from './missing.ts'
import type { Settings } from './settings.ts'

export class Story {
  readonly #startedMs = performance.now()
  #step = ''

  /** Runs a step, then prints its name, its time and what it says. Throws what it throws. */
  async step(name: string, run: () => Promise<string>): Promise<void> {
    const startedMs = performance.now()
    this.#step = name
    const said = await run()
    const took = formatDuration(performance.now() - startedMs)
    console.log(`${styleText('green', 'ok')}  ${name.padEnd(14)} ${took.padStart(6)}  ${said}`)
    this.#step = ''
  }

  say(text: string): void {
    console.log(`    ${text}`)
  }

  /** One line of what went wrong, what to do, and where the logs are. Returns the exit status. */
  fail(error: unknown, settings: Settings | undefined): number {
    const message = error instanceof Error ? error.message : String(error)
    const where = this.#step === '' ? '' : `${this.#step}: `
    console.error(`${styleText('red', 'failed', { stream: process.stderr })}  ${where}${message}`)
    if (settings !== undefined && !(error instanceof Missing))
      console.error(
        `        logs: ${settings.logDirectory}/agent.log, scheduler.log; of QEMU: /var/log/libvirt/qemu/`
      )
    this.#step = ''
    return 1
  }

  end(once: boolean): void {
    const took = formatDuration(performance.now() - this.#startedMs)
    console.log(once ? `all done in ${took}` : `ended after ${took}; nothing is left`)
  }
}
