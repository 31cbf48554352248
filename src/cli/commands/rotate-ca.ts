// hostlet rotate ca STEP: replaces the CA of the fleet, step by step.

import { defineRotation } from '../rotation.ts'

export const define = defineRotation('ca')
