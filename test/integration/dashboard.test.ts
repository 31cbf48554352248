// The dashboard in a real browser, against a real scheduler and agent: what people see, do, and cannot do.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { TOTP } from 'otpauth'
import type { Page } from 'playwright-core'
import type { OperationList, VmReply } from '../../src/protocol/api.ts'
import { crowdCount, DashboardFleet, hostile } from './dashboard/dashboard-fleet.ts'
import { chromiumPath, faultsOfSight, LookingGlass } from './dashboard/looking-glass.ts'
import { eventually } from './isolation/eventually.ts'

const missing = existsSync(chromiumPath) ? false : `there is no ${chromiumPath}: "apt-get install chromium"`
const waitMs = 20_000

describe('the dashboard in a browser', { timeout: 170_000, skip: missing }, () => {
  let fleet: DashboardFleet
  let glass: LookingGlass
  let admin: Page

  before(async () => {
    fleet = await DashboardFleet.open()
    glass = await LookingGlass.open(fleet.url)
    admin = await glass.signedIn(fleet.adminKey)
    admin.setDefaultTimeout(waitMs)
  })
  after(async () => {
    await glass?.[Symbol.asyncDispose]()
    await fleet?.[Symbol.asyncDispose]()
  })

  /** Everything that there is a page for, with words that it shows once its data are there. */
  const pages = (): readonly (readonly [string, string])[] => [
    ['/', 'Fullest hosts'],
    ['/hosts', 'kvm-real'],
    [`/hosts/${fleet.crowd.id}`, 'Domains that are not ours'],
    ['/vms', 'vm-0'],
    ['/vms/vm-0', 'Not as its host’s records say'],
    ['/vms/real-1', 'Running since'],
    ['/operations', 'vm.provision'],
    ['/backups', 'crash'],
    ['/backups?view=failed', 'E_TIMEOUT'],
    ['/conditions', 'critical'],
    ['/audit', 'POST /v1/vms']
  ]
  const text = (page: Page, words: string) => page.locator('main').getByText(words).first()
  const heading = (page: Page, name: string) => page.getByRole('heading', { level: 1, name })
  const stateOf = async (vm: string) => (await fleet.api.get<VmReply>(`/v1/vms/${vm}`)).vm.state
  const operationsOf = async (vm: string) =>
    (await fleet.api.get<OperationList>(`/v1/operations?vm=${vm}`)).operations.map(({ verb }) => verb)

  it('shows each page with its data, without a word from the console or the content security policy', async () => {
    for (const [path, words] of pages()) {
      await admin.goto(path)
      await text(admin, words).waitFor()
    }
    await admin.goto('/vms/vm-0')
    await admin.getByRole('img', { name: /^CPU: cores 0.50 now/ }).waitFor()
    assert.ok((await admin.locator('canvas').count()) >= 4)
    assert.deepEqual(glass.complaints, [])
  })

  it('can be read and used by everybody: contrast in both themes, names of fields, one heading', async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      await admin.emulateMedia({ colorScheme })
      for (const [path, words] of pages()) {
        await admin.goto(path)
        await text(admin, words).waitFor()
        assert.deepEqual(await admin.evaluate(faultsOfSight), [], `${path} in ${colorScheme}`)
      }
    }
    await admin.emulateMedia({ colorScheme: null })
  })

  it('makes no markup of what hosts say', async () => {
    for (const [path, words] of pages()) {
      await admin.goto(path)
      await text(admin, words).waitFor()
      assert.equal(await admin.evaluate('window.hurt'), undefined, path)
      assert.equal(await admin.locator('main img, main script').count(), 0, path)
    }
    await admin.goto('/conditions')
    await text(admin, hostile).waitFor()
    await admin.goto(`/hosts/${fleet.crowd.id}`)
    await heading(admin, hostile).waitFor()
  })

  it('moves the progress of an operation as its host tells of it', async () => {
    await admin.goto('/vms/vm-1')
    const id = await fleet.begin('/v1/vms/vm-1/reboot')
    await fleet.progress(id, 0.2)
    const bar = admin.getByRole('progressbar')
    await admin.locator('[role=progressbar][aria-valuenow="60"]').waitFor()
    await admin.getByText('20 % · 191 MiB of 954 MiB').waitFor()
    await fleet.progress(id, 0.8)
    await admin.locator('[role=progressbar][aria-valuenow="90"]').waitFor()
    fleet.crowd.finish(id)
    await bar.waitFor({ state: 'detached' })
    await text(admin, 'done').waitFor()
  })

  it('calls an operation off when somebody says so', async () => {
    const id = await fleet.begin('/v1/vms/vm-2/stop')
    await admin.goto(`/operations/${id}`)
    await admin.getByRole('button', { name: 'Cancel', exact: true }).click()
    await admin.getByRole('dialog').getByRole('button', { name: 'Cancel the operation' }).click()
    const { claims } = await fleet.crowd.nextCommand()
    assert.equal(claims.verb, 'operation.cancel')
    assert.deepEqual(claims.arguments, { operation: id })
  })

  it('stops a VM once somebody has confirmed it, and starts it again', async () => {
    await admin.goto('/vms/real-1')
    await admin.getByRole('button', { name: 'Stop' }).click()
    await admin.getByRole('dialog', { name: 'Stop real-1?' }).waitFor()
    await admin.keyboard.press('Escape')
    await admin.getByRole('dialog').waitFor({ state: 'detached' })
    assert.deepEqual(await operationsOf('real-1'), ['vm.provision'])
    await admin.getByRole('button', { name: 'Stop' }).click()
    await admin.getByRole('dialog').getByRole('button', { name: 'Stop' }).click()
    await admin.getByText('Asked for vm.stop of real-1').waitFor()
    await admin.getByRole('button', { name: 'Start' }).waitFor()
    await eventually(async () => (await stateOf('real-1')) === 'stopped', 'real-1 to be stopped', waitMs)
    await admin.getByRole('button', { name: 'Start' }).click()
    await admin.getByRole('dialog').getByRole('button', { name: 'Start' }).click()
    await eventually(async () => (await stateOf('real-1')) === 'running', 'real-1 to run', waitMs)
    await admin.getByRole('button', { name: 'Stop' }).waitFor()
    assert.deepEqual(await operationsOf('real-1'), ['vm.start', 'vm.stop', 'vm.provision'])
  })

  it('asks for the repository of a backup, and sends what was written', async () => {
    await admin.goto('/vms/vm-3')
    await admin.getByRole('button', { name: 'Back up' }).click()
    const dialog = admin.getByRole('dialog')
    await dialog.getByLabel('Repository').fill('offsite')
    await dialog.getByRole('button', { name: 'Back up' }).click()
    const { claims } = await fleet.crowd.nextCommand()
    assert.deepEqual([claims.verb, claims.arguments], ['vm.backup', { vm: 'vm-3', target: 'offsite' }])
    fleet.crowd.acknowledge(claims.id)
    fleet.crowd.finish(claims.id)
    await text(admin, 'done').waitFor()
  })

  it('says why something was refused', async () => {
    await admin.goto('/vms/vm-4')
    await admin.getByRole('button', { name: 'Back up' }).click()
    const dialog = admin.getByRole('dialog')
    await dialog.getByLabel('Repository').fill('Not A Name')
    await dialog.getByRole('button', { name: 'Back up' }).click()
    await admin.getByText(/Back up: body/).waitFor()
    glass.complaints.length = 0
  })

  it('pages through VMs, and finds them by parts of what they are', async () => {
    await admin.goto('/vms')
    const rows = admin.locator('tbody tr')
    await text(admin, 'vm-0').waitFor()
    assert.equal(await rows.count(), 100)
    const seen = new Set<string>()
    for (let more = true; more; ) {
      for (const name of await admin.locator('tbody tr a.row-link').allTextContents()) seen.add(name)
      const next = admin.getByRole('button', { name: 'Next' })
      more = await next.isEnabled()
      if (!more) break
      const first = await admin.locator('tbody tr a.row-link').first().textContent()
      await next.click()
      await admin.getByRole('link', { name: first ?? '', exact: true }).waitFor({ state: 'detached' })
    }
    assert.equal(seen.size, crowdCount + 1)
    await admin.getByLabel('Name, host, address or profile').fill('10.83.1.1')
    await eventually(async () => (await rows.count()) < 50, 'fewer rows', waitMs)
    assert.match(admin.url(), /search=10\.83\.1\.1/)
    await admin.getByLabel('Only what is amiss').check()
    await text(admin, 'No VM is like that.').waitFor()
    await admin.getByRole('button', { name: 'Clear' }).click()
    await admin.getByLabel('Only what is amiss').check()
    // Besides the one with drift there may be the one that was to be stopped, and was not.
    await eventually(async () => (await rows.count()) <= 2, 'few rows', waitMs)
    await text(admin, 'drift').waitFor()
  })

  it('can be used with keys alone', async () => {
    await admin.goto('/')
    await heading(admin, 'Overview').waitFor()
    await admin.keyboard.press('?')
    await admin.getByRole('dialog', { name: 'Keys' }).waitFor()
    await admin.keyboard.press('Escape')
    await admin.keyboard.press('g')
    await admin.keyboard.press('v')
    await heading(admin, 'VMs').waitFor()
    await admin.locator('h1:focus').waitFor()
    await text(admin, 'vm-0').waitFor()
    await admin.keyboard.press('j')
    await admin.keyboard.press('j')
    const name = await admin.evaluate('document.activeElement.textContent')
    await admin.keyboard.press('Enter')
    await heading(admin, String(name)).waitFor()
    await admin.keyboard.press('/')
    await admin.keyboard.type('vm-12')
    await admin
      .getByRole('option', { name: /vm-12\b/ })
      .first()
      .waitFor()
    await admin.keyboard.press('Enter')
    await heading(admin, 'vm-12').waitFor()
    await admin.goBack()
    await heading(admin, String(name)).waitFor()
    await admin.reload()
    await heading(admin, String(name)).waitFor()
    await admin.keyboard.press('Tab')
    assert.equal(await admin.evaluate('document.activeElement.textContent'), 'Skip to the content')
    await admin.keyboard.press('Enter')
    assert.equal(await admin.evaluate('document.activeElement.id'), 'main')
  })

  it('is dark where the system is, until somebody turns it, and stays so', async () => {
    const page = await glass.signedIn(fleet.adminKey, { colorScheme: 'dark' })
    const background = () => page.evaluate('getComputedStyle(document.body).backgroundColor')
    const dark = await background()
    await page.keyboard.press('t')
    const light = await background()
    assert.notEqual(dark, light)
    await page.reload()
    await heading(page, 'Overview').waitFor()
    assert.equal(await background(), light)
    await page.context().close()
  })

  it('fits a phone: no page is wider than 390 pixels, and the menu opens', async () => {
    const page = await glass.signedIn(fleet.adminKey, {
      viewport: { width: 390, height: 844 },
      hasTouch: true
    })
    for (const [path, words] of pages()) {
      await page.goto(path)
      await text(page, words).waitFor()
      assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 390, path)
    }
    const link = page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'VMs' })
    assert.equal(await link.isVisible(), false)
    await page.getByRole('button', { name: 'Menu' }).click()
    await link.click()
    await heading(page, 'VMs').waitFor()
    assert.equal(await link.isVisible(), false)
    await page.context().close()
  })

  it('shows who may only look nothing to press, and no audit', async () => {
    const page = await glass.signedIn(await fleet.key('read', 'night watch'))
    await page.goto('/vms/vm-5')
    await text(page, 'UUID').waitFor()
    assert.equal(await page.getByRole('button', { name: /Stop|Reboot|Back up/ }).count(), 0)
    await page.goto('/audit')
    await text(page, 'The audit is shown to keys of tier admin').waitFor()
    await page.context().close()
  })

  it('says when the scheduler does not answer, and goes on when it does', async () => {
    const page = await glass.signedIn(fleet.adminKey)
    await page.goto('/hosts')
    await text(page, 'kvm-real').waitFor()
    await page.context().setOffline(true)
    await text(page, 'The scheduler does not answer').waitFor()
    assert.ok(await text(page, 'kvm-real').isVisible())
    await page.context().setOffline(false)
    await page.getByText('The scheduler does not answer').first().waitFor({ state: 'detached' })
    await page.context().close()
    glass.complaints.length = 0
  })

  it('signs in by a cookie that no script sees, keeps nothing secret, and signs out for good', async () => {
    const page = await glass.signedIn(fleet.adminKey)
    const context = page.context()
    const [cookie] = await context.cookies()
    assert.ok(cookie)
    const { name, httpOnly, secure, sameSite, path, value } = cookie
    assert.deepEqual(
      { name, httpOnly, secure, sameSite, path },
      { name: '__Host-hostlet-session', httpOnly: true, secure: true, sameSite: 'Strict', path: '/' }
    )
    assert.equal(await page.evaluate('document.cookie'), '')
    const kept = await page.evaluate(
      'JSON.stringify([{ ...localStorage }, { ...sessionStorage }, location.href])'
    )
    for (const secret of [fleet.adminKey, value]) assert.ok(!String(kept).includes(secret))
    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.getByText('You are signed out.').waitFor()
    const again = await context.request.get('/v1/session', { headers: { cookie: `${name}=${value}` } })
    assert.equal(again.status(), 401)
    await page.goto('/vms')
    await page.getByLabel('API key').waitFor()
    await context.close()
  })

  it('leads back to the form when the session has ended, and on to the same page after it', async () => {
    const page = await glass.signedIn(await fleet.key('read', 'short'))
    await page.goto('/conditions')
    await heading(page, 'Conditions').waitFor()
    const { keys } = await fleet.api.get<{ keys: { id: string; note: string }[] }>('/v1/keys')
    await fleet.api.delete(`/v1/keys/${keys.find(({ note }) => note === 'short')?.id}`)
    await page.getByText('The session has ended. Sign in again.').waitFor()
    await page.getByLabel('API key').fill(fleet.adminKey)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await heading(page, 'Conditions').waitFor()
    await page.context().close()
    glass.complaints.length = 0
  })

  it('asks for the code of a second factor where the key has one', async () => {
    const key = await fleet.key('manage', 'ada')
    const { secret } = await fleet.api.post<{ secret: string }>('/v1/second-factor', {}, { key })
    const totp = new TOTP({ secret })
    const code = totp.generate({ timestamp: Date.now() - 30_000 })
    await fleet.api.post('/v1/second-factor/confirm', { code }, { key })
    const page = await glass.page(await glass.visitor())
    await page.goto('/')
    await page.getByLabel('API key').fill(key)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByLabel('Code of the second factor').fill(totp.generate())
    await page.getByRole('button', { name: 'Sign in' }).click()
    await heading(page, 'Overview').waitFor()
    await page.context().close()
    glass.complaints.length = 0
  })

  it('refuses wrong keys with a reason, and too many of them for a while', async () => {
    const page = await glass.page(await glass.visitor())
    await page.goto('/')
    const field = page.getByLabel('API key')
    const submit = page.getByRole('button', { name: 'Sign in' })
    await field.fill('hunter2')
    await submit.click()
    await page.getByText('This is no API key').waitFor()
    const wrong = `hlk_${'A'.repeat(43)}`
    await field.fill(wrong)
    await submit.click()
    await page
      .getByRole('alert')
      .getByText(/not known here/)
      .waitFor()
    for (let tries = 0; tries < 20; tries++)
      await fleet.api.ask({ method: 'POST', path: '/v1/session', key: undefined, json: { key: wrong } })
    await submit.click()
    await page.getByText('Too many failed attempts. Try again in 60 seconds.').waitFor()
    assert.ok(!fleet.log.text().includes(wrong))
    await page.context().close()
  })
})
