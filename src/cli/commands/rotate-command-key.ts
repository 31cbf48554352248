// hostlet rotate command-key STEP: replaces the key that signs commands, step by step.

import { defineRotation } from '../rotation.ts'

export const define = defineRotation('command-key')
