// The options that apply and diff have in common.

import { type Command, InvalidArgumentError } from 'commander'

const parallelDefault = 4
const parallelMax = 32

export function applyOptions(command: Command): Command {
  return command
    .requiredOption(
      '-f, --file <path>',
      'file of VMs, directory of such files (.yaml, .yml), or - for standard input; may be repeated',
      (path: string, before: readonly string[] | undefined) => [...(before ?? []), path]
    )
    .option('--replace', 'make root disks anew where the image or the seed differs; what they hold is lost')
    .option('--parallel <count>', 'VMs at once', parallelOf, parallelDefault)
}

function parallelOf(text: string): number {
  const count = Number(text)
  if (Number.isInteger(count) && count >= 1 && count <= parallelMax) return count
  throw new InvalidArgumentError(`Take a whole number from 1 to ${parallelMax}.`)
}

export const applyHelp = `
What a file does not say is left as it is; VMs that are in no file are left alone. A VM that cannot be as its file wants it
is left alone whole, and the others go on.`
