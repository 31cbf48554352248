// Reads a line of our log back: the sentence, then the facts as logfmt. See log-form.ts, which writes them.

export interface ReadLine {
  readonly message: string
  readonly fields: Readonly<Record<string, string>>
}

/** A line that is all equals signs must not take a square of its length. */
const sentenceCharactersMax = 1_024
const pairStart = / [^\s="]+=/g
const pair = /\s([^\s="]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))(?=\s|$)/y

/** What is no line of ours is all message. Values are text; what was nested has its keys joined by dots. */
export function readLine(line: string): ReadLine {
  pairStart.lastIndex = 0
  for (let start = pairStart.exec(line); start !== null; start = pairStart.exec(line)) {
    const fields = pairsFrom(line, start.index)
    if (fields !== undefined) return { message: line.slice(0, start.index), fields }
    // A sentence with an equals sign in it: the facts begin later, if at all.
    pairStart.lastIndex = start.index + 1
    if (start.index > sentenceCharactersMax) break
  }
  return { message: line, fields: {} }
}

function pairsFrom(line: string, start: number): Record<string, string> | undefined {
  const fields: Record<string, string> = {}
  pair.lastIndex = start
  let end = start
  for (let found = pair.exec(line); found !== null; found = pair.exec(line)) {
    const [, key = '', quoted, bare = ''] = found
    fields[key] = quoted === undefined ? bare : unquoted(quoted)
    end = pair.lastIndex
  }
  return end === line.length ? fields : undefined
}

function unquoted(text: string): string {
  try {
    return JSON.parse(`"${text}"`)
  } catch {
    return text
  }
}
