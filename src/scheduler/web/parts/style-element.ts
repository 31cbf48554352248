// An element that holds style rules, for a library which makes such elements: the pages' policy allows rules only this way.

/** As `style` would: its text counts while it is in the page. Defined once. */
export function defineStyleElement(): void {
  if (customElements.get('hostlet-style') === undefined) customElements.define('hostlet-style', StyleElement)
}

class StyleElement extends HTMLElement {
  readonly #sheet = new CSSStyleSheet()

  override get textContent(): string {
    return ''
  }

  /** Never becomes text of the page. */
  override set textContent(rules: string | null) {
    this.#sheet.replaceSync(rules ?? '')
  }

  connectedCallback(): void {
    document.adoptedStyleSheets.push(this.#sheet)
  }

  disconnectedCallback(): void {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((sheet) => sheet !== this.#sheet)
  }
}
