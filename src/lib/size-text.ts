// A number of bytes in a sentence for people: `2.3 MiB`.

const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'] as const

export function sizeText(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${Number(value.toFixed(value < 10 ? 1 : 0))} ${units[unit]}`
}
