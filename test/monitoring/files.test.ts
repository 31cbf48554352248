// monitoring/ and its documents hang together: every query asks for metrics that exist, every alert is explained and tested.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { dashboard, dashboardPath } from '../../scripts/generate-dashboard.ts'
import { metricsPage, metricsPagePath } from '../../scripts/generate-metric-docs.ts'
import { allFamilies, metricNamesIn, queryableNames } from '../../scripts/metric-families.ts'
import {
  type DashboardPanel,
  dashboardQueries,
  readDashboard,
  readYaml,
  rulesOf
} from '../support/monitoring.ts'

const alerts = rulesOf('hostlet-alerts.yml')
const recordings = rulesOf('hostlet-recording.yml')
const queries = [...[...alerts, ...recordings].map(({ expr }) => expr), ...dashboardQueries()]

describe('metrics', () => {
  it('have names by the conventions of Prometheus, each once', () => {
    assert.equal(new Set(allFamilies.map(({ name }) => name)).size, allFamilies.length)
    for (const { name, type, labels, help } of allFamilies) {
      assert.match(name, /^(hostlet|process|nodejs)_[a-z0-9_]+$/)
      assert.equal(name.endsWith('_total'), type === 'counter', name)
      assert.match(help, /^[A-Z0-9].*\.$/, name)
      for (const label of labels) assert.match(label, /^[a-z]+$/, name)
    }
  })

  it('are listed in docs/metrics.md as they are declared: node scripts/generate-metric-docs.ts', () => {
    assert.equal(readFileSync(metricsPagePath, 'utf8'), metricsPage())
  })
})

describe('queries', () => {
  it('ask for metrics that are exported', () => {
    const unknown = queries.flatMap(metricNamesIn).filter((name) => !queryableNames.has(name))
    assert.deepEqual(unknown, [])
    assert.ok(queries.flatMap(metricNamesIn).length > 60)
  })

  it('ask for recorded metrics that there are, and every one of these is asked for', () => {
    const asked = queries.flatMap((query) => query.match(/[a-z_]+:[a-z0-9_]+:[a-z0-9_]+/g) ?? [])
    const recorded = recordings.map(({ record }) => record)
    assert.deepEqual([...new Set(asked)].sort(), recorded.sort())
  })
})

describe('each alert', () => {
  it('says what is so, how bad it is and where to read on', () => {
    const text = readFileSync(join(import.meta.dirname, '../../docs/alerts.md'), 'utf8')
    const headings = [...text.matchAll(/^### (\w+)$/gm)].map(([, heading]) => heading)
    assert.deepEqual(headings.sort(), alerts.map(({ alert }) => alert).sort())
    for (const { alert = '', labels, annotations } of alerts) {
      assert.match(labels?.severity ?? '', /^(info|warning|critical)$/, alert)
      assert.ok((annotations?.summary ?? '').length > 10, alert)
      assert.match(annotations?.description ?? '', /\.$/, alert)
      assert.equal(annotations?.runbook_url, `docs/alerts.md#${alert.toLowerCase()}`)
    }
  })

  it('has tests in which it fires and in which it does not', () => {
    interface AlertTest {
      readonly alert_rule_test: readonly { alertname: string; exp_alerts: readonly unknown[] }[]
    }
    const { tests } = readYaml<{ tests: AlertTest[] }>('prometheus/tests/hostlet-alerts.test.yml')
    const expected = tests.flatMap((test) => test.alert_rule_test)
    for (const { alert } of alerts) {
      const of = expected.filter(({ alertname }) => alertname === alert)
      assert.ok(
        of.some(({ exp_alerts }) => exp_alerts.length > 0),
        `${alert} never fires`
      )
      assert.ok(
        of.some(({ exp_alerts }) => exp_alerts.length === 0),
        `${alert} always fires`
      )
    }
  })

  it('reaches a receiver that there is', () => {
    interface Route {
      readonly receiver: string
      readonly routes?: readonly Route[]
    }
    const { route, receivers } = readYaml<{ route: Route; receivers: { name: string }[] }>(
      'alertmanager/alertmanager.yml'
    )
    const names = receivers.map(({ name }) => name)
    for (const { receiver } of [route, ...(route.routes ?? [])]) assert.ok(names.includes(receiver), receiver)
  })
})

describe('the dashboard', () => {
  const { panels, templating, schemaVersion, uid } = readDashboard()

  it('is as its script writes it: node scripts/generate-dashboard.ts', () => {
    assert.equal(readFileSync(dashboardPath, 'utf8'), `${JSON.stringify(dashboard(), undefined, 2)}\n`)
  })

  it('has what Grafana wants of every panel, and no two in one place', () => {
    assert.ok(schemaVersion >= 36)
    assert.match(uid, /^[a-zA-Z0-9_-]{1,40}$/)
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length)
    for (const { type, title, description, datasource, targets = [], gridPos } of panels) {
      assert.ok(gridPos.x >= 0 && gridPos.x + gridPos.w <= 24 && gridPos.h > 0, title)
      if (type === 'row') continue
      assert.ok(['stat', 'timeseries', 'table'].includes(type), title)
      assert.ok(description, title)
      assert.deepEqual(datasource, { type: 'prometheus', uid: '$datasource' })
      assert.ok(targets.length > 0, title)
      assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length)
    }
    for (const [index, panel] of panels.entries())
      for (const other of panels.slice(0, index)) assert.ok(!overlaps(panel, other), panel.title)
  })

  it('has a variable for every one that its queries use', () => {
    const text = JSON.stringify(panels) + JSON.stringify(templating.list.map(({ definition }) => definition))
    const used = new Set([...text.matchAll(/\$(?!__)(\w+)/g)].map(([, name]) => name))
    assert.deepEqual([...used].sort(), templating.list.map(({ name }) => name).sort())
    const names = templating.list.flatMap(({ definition = '' }) => definition.match(/hostlet_\w+/g) ?? [])
    for (const name of names) assert.ok(queryableNames.has(name), name)
  })
})

function overlaps({ gridPos: one }: DashboardPanel, { gridPos: other }: DashboardPanel): boolean {
  const isBeside = one.x + one.w <= other.x || other.x + other.w <= one.x
  const isAbove = one.y + one.h <= other.y || other.y + other.h <= one.y
  return !isBeside && !isAbove
}
