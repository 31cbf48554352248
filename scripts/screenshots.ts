// Draws the pictures of the dashboard in docs/images anew: a made-up fleet, a real scheduler, a headless browser.
//
//   node scripts/screenshots.ts [NAME]

import { mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { DemoFleet } from '../test/support/demo-fleet.ts'

const folder = join(import.meta.dirname, '../docs/images')
const wide = { width: 1240, height: 720 }
const phone = { width: 390, height: 844 }

interface Picture {
  readonly name: string
  readonly path: string
  /** What is there once the page has its data. */
  readonly ready: string
  readonly options: BrowserContextOptions
  /** Done on the page before the picture is taken. */
  act?(page: Page): Promise<void>
}

const boot = [
  '[    2.104518] EXT4-fs (vda1): mounted filesystem with ordered data mode',
  '[  \x1b[32mOK\x1b[0m  ] Reached target \x1b[1mLocal File Systems\x1b[0m.',
  '[\x1b[31mFAILED\x1b[0m] Failed to start \x1b[1mnetworking.service\x1b[0m - Raise network interfaces.',
  "See 'systemctl status networking.service' for details.",
  '[  \x1b[32mOK\x1b[0m  ] Started \x1b[1mserial-getty@ttyS0.service\x1b[0m - Serial Getty on ttyS0.',
  '[  \x1b[32mOK\x1b[0m  ] Reached target \x1b[1mMulti-User System\x1b[0m.',
  '',
  'Debian GNU/Linux 12 web-1 ttyS0',
  '',
  'web-1 login: '
]

const pictures: readonly Picture[] = [
  { name: 'overview', path: '/', ready: '.meter', options: { viewport: wide, colorScheme: 'light' } },
  { name: 'vm', path: '/vms/db-2', ready: 'canvas', options: { viewport: wide, colorScheme: 'dark' } },
  { name: 'vms', path: '/vms', ready: '.meter', options: { viewport: wide, colorScheme: 'light' } },
  {
    name: 'console',
    path: '/vms/web-1/console',
    ready: 'button.primary:enabled',
    options: { viewport: wide, colorScheme: 'dark' },
    act: openConsole
  },
  { name: 'phone', path: '/vms/db-2', ready: 'canvas', options: { viewport: phone, colorScheme: 'light' } }
]

mkdirSync(folder, { recursive: true })
await using fleet = await DemoFleet.open({ historyMs: 3_600_000 })
const [host] = fleet.hosts
if (host === undefined) throw new Error('the fleet has no host')
await fleet.pastOperations(host)
await (await fleet.beginBackup(host)).to(0.42)
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] })
try {
  const [only] = process.argv.slice(2)
  for (const picture of pictures)
    if (only === undefined || picture.name === only) await draw(browser, picture)
} finally {
  await browser.close()
}

async function draw(browser: Browser, { name, path, ready, options, act }: Picture): Promise<void> {
  const context = await browser.newContext({ ...options, ignoreHTTPSErrors: true, reducedMotion: 'reduce' })
  const page = await context.newPage()
  await signIn(page)
  await page.goto(fleet.scheduler.running.url + path)
  await page.locator(ready).first().waitFor()
  await page.waitForLoadState('networkidle')
  await act?.(page)
  const file = join(folder, `dashboard-${name}.png`)
  await page.screenshot({ path: file })
  console.log(`${file}: ${Math.ceil(statSync(file).size / 1024)} KiB`)
  await context.close()
}

async function openConsole(page: Page): Promise<void> {
  if (host === undefined) return
  await page.getByRole('button', { name: 'Open', exact: true }).click()
  await fleet.answerConsole(host, boot.join('\r\n'))
  await page.locator('.xterm-rows', { hasText: 'web-1' }).waitFor()
}

async function signIn(page: Page): Promise<void> {
  await page.goto(fleet.scheduler.running.url)
  await page.getByLabel('API key').fill(fleet.scheduler.adminKey)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('heading', { name: 'Overview' }).waitFor()
}
