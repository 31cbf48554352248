// The files of monitoring/, read as what they are.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'

const root = join(import.meta.dirname, '../..')
export const monitoringDirectory = join(root, 'monitoring')

export interface Rule {
  readonly alert?: string
  readonly record?: string
  readonly expr: string
  readonly for?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
}

export function rulesOf(file: 'hostlet-alerts.yml' | 'hostlet-recording.yml'): readonly Rule[] {
  const { groups } = readYaml<{ groups: { rules: Rule[] }[] }>(`prometheus/rules/${file}`)
  return groups.flatMap(({ rules }) => rules)
}

export function readYaml<Shape>(path: string): Shape {
  return parse(readFileSync(join(monitoringDirectory, path), 'utf8')) as Shape
}

export interface DashboardPanel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly description?: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets?: readonly { readonly refId: string; readonly expr: string }[]
  readonly datasource?: { readonly type: string; readonly uid: string }
}

export interface DashboardFile {
  readonly uid: string
  readonly title: string
  readonly schemaVersion: number
  readonly templating: {
    readonly list: readonly { readonly name: string; readonly type: string; readonly definition?: string }[]
  }
  readonly panels: readonly DashboardPanel[]
}

export function readDashboard(): DashboardFile {
  return JSON.parse(readFileSync(join(monitoringDirectory, 'grafana/hostlet.json'), 'utf8')) as DashboardFile
}

/** Every query of the dashboard, with values in place of its variables, as Grafana sends it. */
export function dashboardQueries(): readonly string[] {
  return readDashboard().panels.flatMap(({ targets = [] }) =>
    targets.map(({ expr }) => expr.replaceAll('$__rate_interval', '2m').replaceAll(/\$(host|vm)\b/g, '.*'))
  )
}
