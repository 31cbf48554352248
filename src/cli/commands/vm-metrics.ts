// hostlet vm metrics NAME

import type { Define } from '../define.ts'
import { metricsHistory, vmFigures } from '../metrics-history.ts'

export const define: Define = (command, cli) => {
  metricsHistory(command, cli, { kind: 'vms', answer: 'VmMetrics', columns: vmFigures })
}
