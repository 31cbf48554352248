// Names of checkpoints: whose snapshot each belongs to, so that several repositories can follow one VM.

const prefix = 'hostlet'

export function checkpointName(target: string, snapshot: string): string {
  return `${prefix}.${target}.${snapshot}`
}

/** Whether it was made for a backup to this repository. */
export function isOfTarget(checkpoint: string, target: string): boolean {
  return checkpoint.startsWith(`${prefix}.${target}.`)
}
