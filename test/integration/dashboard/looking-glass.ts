// One browser for the tests of the dashboard, which writes down whatever a page complains of.

import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  chromium,
  type Page
} from 'playwright-core'

export const chromiumPath = '/usr/bin/chromium'

/** Some network of the machine came or went, as those of other tests do. Pages ask again. */
const notOurs = 'net::ERR_NETWORK_CHANGED'

export class LookingGlass implements AsyncDisposable {
  readonly url: string
  /** Errors of consoles, exceptions, and what the content security policy has stopped. */
  readonly complaints: string[] = []
  readonly #browser: Browser

  private constructor(url: string, browser: Browser) {
    this.url = url
    this.#browser = browser
  }

  static async open(url: string): Promise<LookingGlass> {
    // No sandbox: the tests run as root, and show nothing but our own pages.
    const browser = await chromium.launch({ executablePath: chromiumPath, args: ['--no-sandbox'] })
    return new LookingGlass(url, browser)
  }

  /** A visitor with cookies of its own. */
  async visitor(options: BrowserContextOptions = {}): Promise<BrowserContext> {
    const context = await this.#browser.newContext({
      ignoreHTTPSErrors: true,
      baseURL: this.url,
      viewport: { width: 1280, height: 800 },
      ...options
    })
    await context.addInitScript(
      `addEventListener('securitypolicyviolation', (event) => console.error('policy', event.violatedDirective, event.blockedURI))`
    )
    return context
  }

  async page(context: BrowserContext): Promise<Page> {
    const page = await context.newPage()
    page.on('console', (message) => {
      const isBad = message.type() === 'error' || message.type() === 'warning'
      if (isBad && !message.text().includes(notOurs)) this.complaints.push(message.text())
    })
    // A page whose scripts did not come is nothing to look at: it is got again.
    page.on('requestfailed', (request) => {
      const isOfPage = request.resourceType() === 'script' || request.resourceType() === 'stylesheet'
      if (isOfPage && request.failure()?.errorText === notOurs) void page.reload().catch(() => undefined)
    })
    page.on('pageerror', (error) => this.complaints.push(String(error)))
    return page
  }

  /** Whoever has that key, at the overview. */
  async signedIn(key: string, options: BrowserContextOptions = {}): Promise<Page> {
    const page = await this.page(await this.visitor(options))
    await page.goto('/')
    await page.getByLabel('API key').fill(key)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor()
    return page
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#browser.close()
  }
}

/**
 * What text has too little contrast (WCAG 2.2, 1.4.3: 4.5 to 1, large text 3 to 1), a field or button no name, or an id twice.
 * Runs in the page.
 */
export const faultsOfSight = `(() => {
  const faults = []
  const channels = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number)
  const light = (colour) => {
    const [r, g, b] = channels(colour).slice(0, 3).map((value) => {
      const share = value / 255
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const { backgroundColor } = getComputedStyle(at)
      const alpha = channels(backgroundColor)[3]
      if (alpha === undefined || alpha === 1) return backgroundColor
    }
    return 'rgb(255, 255, 255)'
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement
    const text = walker.currentNode.nodeValue.trim()
    if (text === '' || !element.checkVisibility() || element.closest('noscript, option, :disabled')) continue
    const { color, fontSize, fontWeight } = getComputedStyle(element)
    const pair = [light(color), light(behind(element))].sort((left, right) => right - left)
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05)
    const isLarge = parseFloat(fontSize) >= 24 || (parseFloat(fontSize) >= 18.66 && Number(fontWeight) >= 700)
    if (ratio < (isLarge ? 3 : 4.5)) faults.push(text.slice(0, 30) + ': contrast ' + ratio.toFixed(2))
  }
  for (const element of document.querySelectorAll('button, input:not([hidden]), select, a')) {
    const labelled = element.getAttribute('aria-label') ?? element.labels?.[0]?.textContent ?? element.textContent
    if (!labelled?.trim()) faults.push(element.outerHTML.slice(0, 80) + ': no name')
  }
  const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id)
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push('id ' + id + ' twice')
  if (document.querySelectorAll('h1').length !== 1) faults.push('not one heading of the first level')
  return [...new Set(faults)]
})()`
