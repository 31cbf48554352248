// Whether somebody is at the page: has clicked, typed or scrolled lately.

/** The scheduler notes the use of a session about once a minute: no less, or the last click would be lost. */
export const attendedMs = 90_000

const signs = ['pointerdown', 'keydown', 'wheel', 'touchstart'] as const

export class Attendance {
  readonly #now: () => number
  #lastAt: number

  /** Who opens the page is there. */
  constructor(page: Pick<EventTarget, 'addEventListener'>, now: () => number) {
    this.#now = now
    this.#lastAt = now()
    const seen = () => {
      this.#lastAt = now()
    }
    for (const sign of signs) page.addEventListener(sign, seen, { capture: true, passive: true })
  }

  get isAttended(): boolean {
    return this.#now() - this.#lastAt < attendedMs
  }
}
