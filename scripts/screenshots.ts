// Draws the pictures of the dashboard in docs/images anew: a made-up fleet, a real scheduler, a headless browser.
//
//   node scripts/screenshots.ts

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
}

const pictures: readonly Picture[] = [
  { name: 'overview', path: '/', ready: '.meter', options: { viewport: wide, colorScheme: 'light' } },
  { name: 'vm', path: '/vms/db-2', ready: 'canvas', options: { viewport: wide, colorScheme: 'dark' } },
  { name: 'vms', path: '/vms', ready: '.meter', options: { viewport: wide, colorScheme: 'light' } },
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
  for (const picture of pictures) await draw(browser, picture)
} finally {
  await browser.close()
}

async function draw(browser: Browser, { name, path, ready, options }: Picture): Promise<void> {
  const context = await browser.newContext({ ...options, ignoreHTTPSErrors: true, reducedMotion: 'reduce' })
  const page = await context.newPage()
  await signIn(page)
  await page.goto(fleet.scheduler.running.url + path)
  await page.locator(ready).first().waitFor()
  await page.waitForLoadState('networkidle')
  const file = join(folder, `dashboard-${name}.png`)
  await page.screenshot({ path: file })
  console.log(`${file}: ${Math.ceil(statSync(file).size / 1024)} KiB`)
  await context.close()
}

async function signIn(page: Page): Promise<void> {
  await page.goto(fleet.scheduler.running.url)
  await page.getByLabel('API key').fill(fleet.scheduler.adminKey)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('heading', { name: 'Overview' }).waitFor()
}
