// Reads bytes written as annotated hex: one field a line, `#` begins a comment.

export function hex(strings: TemplateStringsArray): Buffer {
  const digits = strings.join('').replaceAll(/#.*$/gm, '').replaceAll(/\s/g, '')
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new Error(`not hex: ${digits}`)
  return Buffer.from(digits, 'hex')
}
