// The serial console in a real browser, against a real scheduler and agent: what is typed and shown, every way out, and what is kept of it.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { after, afterEach, before, describe, it } from 'node:test'
import type { Page } from 'playwright-core'
import type { AuditList } from '../../src/protocol/api.ts'
import { DashboardFleet } from './dashboard/dashboard-fleet.ts'
import { chromiumPath, faultsOfSight, LookingGlass } from './dashboard/looking-glass.ts'
import { eventually } from './isolation/eventually.ts'

const missing = existsSync(chromiumPath) ? false : `there is no ${chromiumPath}: "apt-get install chromium"`
const waitMs = 20_000
const path = '/vms/real-1/console'

describe('the console in a browser', { timeout: 170_000, skip: missing }, () => {
  let fleet: DashboardFleet
  let glass: LookingGlass
  let admin: Page

  before(async () => {
    fleet = await DashboardFleet.open()
    glass = await LookingGlass.open(fleet.url)
    admin = await signedIn('admin', 'ada')
  })
  after(async () => {
    await glass?.[Symbol.asyncDispose]()
    await fleet?.[Symbol.asyncDispose]()
  })
  afterEach(() => {
    assert.deepEqual(glass.complaints.splice(0), [])
  })

  async function signedIn(tier: 'admin' | 'manage', note: string): Promise<Page> {
    const page = await glass.signedIn(await fleet.key(tier, note))
    page.setDefaultTimeout(waitMs)
    return page
  }

  const button = (page: Page, name: string) => page.getByRole('button', { name, exact: true })
  const told = (page: Page, words: string) => page.getByRole('status').getByText(words).first()
  const guest = () => fleet.hypervisor.consoles
  /** What the terminal shows; it writes spaces as those that do not break. */
  const screen = async (page: Page) =>
    (await page.locator('.xterm-rows').innerText()).replaceAll('\u00a0', ' ')
  const shows = (page: Page, words: string) =>
    eventually(async () => (await screen(page)).includes(words), `"${words}" on the screen`, waitMs)
  const wasTyped = (text: string) =>
    eventually(
      async () => (guest().typed.get('real-1') ?? '').endsWith(text),
      `${JSON.stringify(text)} to be typed`,
      waitMs
    )

  async function opened(page: Page, by = 'Open'): Promise<void> {
    await page.goto(path)
    await button(page, by).click()
    await told(page, by === 'Open' ? 'Writing' : 'Watching').waitFor()
  }

  async function left(page: Page): Promise<void> {
    await button(page, 'Leave').click()
    await told(page, 'You left the console').waitFor()
    await eventually(async () => !guest().isOpen('real-1'), 'the port to be free', waitMs)
  }

  it('is reached from the page of its VM, loads its terminal only then, types, and shows what the guest sends', async () => {
    const got: string[] = []
    admin.on('request', (request) => got.push(request.url()))
    await admin.goto('/vms/real-1')
    await admin.getByRole('link', { name: 'Console' }).click()
    await admin.getByRole('heading', { level: 1, name: 'Console of real-1' }).waitFor()
    assert.deepEqual(
      got.filter((url) => url.includes('xterm')),
      []
    )
    await button(admin, 'Open').click()
    await told(admin, 'Writing').waitFor()
    assert.equal(got.filter((url) => url.includes('xterm')).length, 3)
    guest().say('real-1', '\x1b[1;38;2;10;200;90mreal-1 login:\x1b[0m ')
    await shows(admin, 'real-1 login:')
    await admin.keyboard.type('root\n')
    await shows(admin, 'real-1 login: root')
    await wasTyped('root\r')
  })

  it('draws colours, widths and scrollbars with styles that the policy allows', async () => {
    const styleOf = (selector: string, property: string) =>
      admin.evaluate(`getComputedStyle(document.querySelector('${selector}')).${property}`)
    assert.match(String(await styleOf('.xterm-rows', 'fontFamily')), /monospace/)
    // Given by the guest as it is, and made darker where the theme is light: still green, and bold.
    const colour = String(await styleOf('.xterm-rows .xterm-bold:not(.xterm-cursor)', 'color'))
    const [red = 0, green = 0, blue = 0] = [...colour.matchAll(/\d+/g)].map(Number)
    assert.ok(green > 2 * red && green > blue, colour)
    assert.equal(await styleOf('.xterm-screen', 'width'), await styleOf('.xterm-rows > div', 'width'))
    assert.match(String(await styleOf('.xterm-scrollable-element .slider', 'backgroundColor')), /^rgba/)
    assert.equal(await admin.locator('style').count(), 0)
  })

  it('keeps nothing of it in the browser', async () => {
    const kept = await admin.evaluate(
      'JSON.stringify([{ ...localStorage }, { ...sessionStorage }, location.href, document.title, history.state])'
    )
    assert.doesNotMatch(String(kept), /login|hlc_|hls_|hlk_/)
    assert.equal(new URL(admin.url()).pathname + new URL(admin.url()).search, path)
  })

  it('is left by keyboard, and opened again', async () => {
    await admin.locator('.xterm-helper-textarea').focus()
    await admin.keyboard.press('Control+Shift+E')
    await admin.locator('button:focus', { hasText: 'Leave' }).waitFor()
    await admin.keyboard.press('Enter')
    await told(admin, 'You left the console').waitFor()
    await admin.locator('button:focus', { hasText: 'Open again' }).waitFor()
    await admin.locator('.xterm-helper-textarea').focus()
    await admin.keyboard.press('Shift+Tab')
    await admin.locator('button:focus', { hasText: 'Watch only' }).waitFor()
    await admin.keyboard.press('Shift+Tab')
    await admin.keyboard.press('Enter')
    await told(admin, 'Writing').waitFor()
    await left(admin)
  })

  it('is not typed to by who only watches, and shown to both', async () => {
    await opened(admin)
    const watcher = await signedIn('admin', 'bob')
    await opened(watcher, 'Watch only')
    const before = guest().typed.get('real-1')
    await watcher.keyboard.type('rm')
    guest().say('real-1', 'for both')
    for (const page of [admin, watcher]) await shows(page, 'for both')
    assert.equal(guest().typed.get('real-1'), before)
    await button(watcher, 'Leave').click()
    await watcher.context().close()
    await left(admin)
  })

  it('says who writes to whoever comes second, and is taken over when they say so', async () => {
    await opened(admin)
    const second = await signedIn('admin', 'grace')
    await second.goto(path)
    await button(second, 'Open').click()
    const dialog = second.getByRole('dialog', { name: 'Take the console over?' })
    await dialog.getByText(/^ada \(key .*\) writes since/).waitFor()
    await dialog.getByRole('button', { name: 'Cancel' }).click()
    await told(second, 'It stays with whoever writes').waitFor()
    await button(second, 'Open again').click()
    await dialog.getByRole('button', { name: 'Take over' }).click()
    await told(second, 'Writing').waitFor()
    await told(admin, 'The session has ended: grace (key').waitFor()
    await second.keyboard.type('mine')
    await wasTyped('mine')
    // Whoever leaves the page has left the console.
    await second.getByRole('link', { name: 'Back to the VM' }).click()
    await eventually(async () => !guest().isOpen('real-1'), 'the port to be free', waitMs)
    await second.context().close()
  })

  it('asks before it pastes lines, and refuses too much', async () => {
    await opened(admin)
    const paste = (text: string) =>
      admin.evaluate((pasted) => {
        const page = globalThis as unknown as Record<
          'DataTransfer' | 'ClipboardEvent',
          new (
            ...given: unknown[]
          ) => never
        > & {
          document: { querySelector(name: string): { dispatchEvent(event: never): void } }
        }
        const clipboardData = new page.DataTransfer() as { setData(type: string, text: string): void }
        clipboardData.setData('text/plain', pasted)
        const event = new page.ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true })
        page.document.querySelector('.xterm-helper-textarea').dispatchEvent(event)
      }, text)
    await paste('short')
    await wasTyped('short')
    await paste('one\ntwo\n')
    await admin
      .getByRole('dialog', { name: 'Paste 3 lines?' })
      .getByRole('button', { name: 'Cancel' })
      .click()
    await paste('uno\ndos')
    await admin.getByRole('dialog', { name: 'Paste 2 lines?' }).getByRole('button', { name: 'Paste' }).click()
    await wasTyped('shortuno\rdos')
    await paste('x'.repeat(40_000))
    await admin.getByText('40000 characters are too many to paste').waitFor()
    await paste('y'.repeat(30_000))
    await admin.getByRole('dialog').getByRole('button', { name: 'Paste' }).click()
    await wasTyped('y'.repeat(30_000))
    await left(admin)
  })

  it('shows a flood whole, within its credit', async () => {
    await opened(admin)
    const lines = Array.from(
      { length: 6_000 },
      (_, index) => `line ${index} of the flood ${'.'.repeat(40)}\r\n`
    )
    guest().say('real-1', lines.join(''))
    guest().say('real-1', 'the end')
    await shows(admin, 'the end')
    assert.match(await screen(admin), /line 5999 of the flood/)
    await left(admin)
  })

  it('can be read in both themes and on a phone', async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      await admin.emulateMedia({ colorScheme })
      await opened(admin)
      guest().say('real-1', 'plain \x1b[33myellow\x1b[0m \x1b[34mblue\x1b[0m')
      await shows(admin, 'plain yellow blue')
      assert.deepEqual(await admin.evaluate(faultsOfSight), [], colorScheme)
      await left(admin)
    }
    await admin.emulateMedia({ colorScheme: null })
    await admin.setViewportSize({ width: 390, height: 844 })
    await opened(admin)
    assert.equal(await admin.evaluate('document.documentElement.scrollWidth'), 390)
    await left(admin)
    await admin.setViewportSize({ width: 1280, height: 800 })
  })

  it('ends with a session that is signed out, and with its VM, and says so', async () => {
    const page = await signedIn('admin', 'eve')
    await opened(page)
    await button(page, 'Sign out').click()
    await page.getByText('You are signed out.').waitFor()
    await eventually(async () => !guest().isOpen('real-1'), 'the port to be free', waitMs)
    await page.context().close()
    await opened(admin)
    await fleet.api.post('/v1/vms/real-1/stop', { force: true })
    await told(admin, 'The session has ended: VM real-1 is off').waitFor()
    await admin.locator('button:disabled', { hasText: 'Open again' }).waitFor()
  })

  it('is not offered to a key of a lower tier', async () => {
    const page = await signedIn('manage', 'robot')
    await page.goto('/vms/real-1')
    await button(page, 'Back up').waitFor()
    assert.equal(await page.getByRole('link', { name: 'Console', exact: true }).count(), 0)
    await page.goto(path)
    await page.getByText('Consoles are for keys of tier admin. Yours is of tier manage.').waitFor()
    await page.context().close()
  })

  it('is written down: who, when and why, and not what', async () => {
    const { entries } = await fleet.api.get<AuditList>('/v1/audit?kind=console&limit=200')
    const text = JSON.stringify(entries)
    assert.match(text, /"why":"taken"/)
    assert.match(text, /"note":"grace"/)
    for (const secret of ['login:', 'for both', 'of the flood']) {
      assert.ok(!text.includes(secret))
      assert.ok(!fleet.log.text().includes(secret))
    }
  })
})
