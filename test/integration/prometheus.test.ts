// Metrics, rules and dashboard before a real Prometheus: promtool takes them, a scrape over TLS with a key works, an alert fires.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { stringify } from 'yaml'
import type { CreatedKey } from '../../src/protocol/api.ts'
import { TestScheduler } from '../scheduler/support/test-scheduler.ts'
import { readExposition } from '../support/exposition.ts'
import { HostAgent } from '../support/host-agent.ts'
import { dashboardQueries, monitoringDirectory, readYaml } from '../support/monitoring.ts'
import { eventually } from './isolation/eventually.ts'

const programs = join(import.meta.dirname, '../../.cache/prometheus/root/usr/bin')
const prometheusFiles = join(monitoringDirectory, 'prometheus')

interface PrometheusConfig {
  global: Record<string, string>
  rule_files: string[]
  alerting?: unknown
  scrape_configs: Record<string, unknown>[]
}

describe('a real Prometheus', () => {
  const parts = new AsyncDisposableStack()
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-prometheus-'))
  let scheduler: TestScheduler
  let agent: HostAgent
  let agentPort: number

  before(async () => {
    parts.defer(() => rmSync(directory, { recursive: true, force: true }))
    assert.ok(existsSync(join(programs, 'promtool')), 'promtool is missing: run "sh scripts/setup.sh"')
    scheduler = parts.use(await TestScheduler.start())
    agent = parts.use(await HostAgent.enroll(scheduler))
    agentPort = await freePort()
    await agent.start(scheduler, { settings: { metrics: { listen: `127.0.0.1:${agentPort}` } } })
    await eventually(
      async () => (await scrape()).includes('hostlet_host_cpu_used_ratio{'),
      'a sample of the host at the scheduler'
    )
  })
  after(() => parts.disposeAsync())

  async function scrape(): Promise<string> {
    return String((await scheduler.api.ask({ path: '/metrics' })).body)
  }

  async function scrapeAgent(): Promise<string> {
    return (await fetch(`http://127.0.0.1:${agentPort}/metrics`)).text()
  }

  it('takes what the scheduler exports, without a complaint', async () => {
    promtool(['check', 'metrics'], await scrape())
  })

  it('takes what an agent exports, without a complaint; its own clock, process and state are among it', async () => {
    const text = await scrapeAgent()
    promtool(['check', 'metrics'], text)
    const families = readExposition(text)
    for (const name of [
      'hostlet_host_cpu_used_ratio',
      'hostlet_host_pool_available_bytes',
      'hostlet_host_certificate_expiry_timestamp_seconds',
      'hostlet_host_libvirt_connected',
      'hostlet_agent_journal_bytes',
      'hostlet_agent_scheduler_connects_total',
      'hostlet_agent_libvirt_statistics_seconds',
      'process_resident_memory_bytes'
    ])
      assert.ok((families.get(name)?.values.length ?? 0) > 0, name)
    assert.equal(families.get('hostlet_agent_scheduler_connected')?.values[0]?.value, 1)
  })

  it('takes the rules, whose tests pass', () => {
    promtool(['check', 'rules', ...ruleFiles()])
    promtool(['check', 'config', '--syntax-only', join(prometheusFiles, 'prometheus.yml')])
    promtool(['test', 'rules', join(prometheusFiles, 'tests/hostlet-alerts.test.yml')])
  })

  it('can read every query of the dashboard', () => {
    const path = join(directory, 'dashboard-rules.yml')
    const rules = dashboardQueries().map((expr, index) => ({ record: `dashboard:query:${index}`, expr }))
    writeFileSync(path, stringify({ groups: [{ name: 'dashboard', rules }] }))
    promtool(['check', 'rules', path])
  })

  it('scrapes the scheduler with a key file over TLS, and an alert fires on failed logins', async () => {
    const { text: key } = await scheduler.api.post<CreatedKey>('/v1/keys', {
      tier: 'read',
      note: 'prometheus'
    })
    await using prometheus = await Prometheus.start(directory, configFor(key))
    const has = (query: string) => async () => (await prometheus.query(query)).includes('1')
    await eventually(has('up{job="hostlet-scheduler"}'), 'a scrape of the scheduler')
    await eventually(has('hostlet_host_up'), 'the host in what was scraped')
    assert.equal(await prometheus.firing('HostletFailedLogins'), false)
    const stranger = scheduler.apiWith(`hlk_${'x'.repeat(43)}`)
    for (let attempt = 0; attempt < 30; attempt += 1) await stranger.ask({ path: '/v1/hosts' })
    await eventually(() => prometheus.firing('HostletFailedLogins'), 'the alert')
    assert.equal(await prometheus.firing('HostletSchedulerDown'), false)
  })

  /** The sample as it is delivered, but for its places and its patience. */
  function configFor(key: string): PrometheusConfig {
    const config = readYaml<PrometheusConfig>('prometheus/prometheus.yml')
    writeFileSync(join(directory, 'read.key'), key, { mode: 0o600 })
    const [scrapeConfig] = config.scrape_configs
    return {
      global: { scrape_interval: '1s', evaluation_interval: '1s' },
      rule_files: ruleFiles(),
      scrape_configs: [
        {
          ...scrapeConfig,
          scrape_interval: '1s',
          scrape_timeout: '1s',
          authorization: { credentials_file: join(directory, 'read.key') },
          tls_config: { ca_file: scheduler.running.caFile },
          static_configs: [{ targets: [new URL(scheduler.running.url).host] }]
        }
      ]
    }
  }
})

function ruleFiles(): string[] {
  return ['hostlet-alerts.yml', 'hostlet-recording.yml'].map((name) => join(prometheusFiles, 'rules', name))
}

function promtool(words: readonly string[], input = ''): void {
  const { status, stdout, stderr } = spawnSync(join(programs, 'promtool'), words, { input, encoding: 'utf8' })
  assert.equal(status, 0, `promtool ${words.join(' ')}: ${stdout}${stderr}`)
  assert.equal(stderr, '')
}

class Prometheus implements AsyncDisposable {
  readonly #process: ChildProcess
  readonly #url: string

  private constructor(process: ChildProcess, url: string) {
    this.#process = process
    this.#url = url
  }

  static async start(directory: string, config: PrometheusConfig): Promise<Prometheus> {
    const configFile = join(directory, 'prometheus.yml')
    writeFileSync(configFile, stringify(config))
    const address = `127.0.0.1:${await freePort()}`
    const child = spawn(
      join(programs, 'prometheus'),
      [
        `--config.file=${configFile}`,
        `--storage.tsdb.path=${join(directory, 'data')}`,
        `--web.listen-address=${address}`
      ],
      { stdio: 'ignore' }
    )
    await using parts = new AsyncDisposableStack()
    const prometheus = parts.use(new Prometheus(child, `http://${address}`))
    await eventually(async () => {
      assert.equal(child.exitCode, null, 'Prometheus has ended')
      const answer = await fetch(`http://${address}/-/ready`).catch(() => undefined)
      return answer?.ok === true
    }, 'Prometheus to be ready')
    parts.move()
    return prometheus
  }

  /** Values of an instant query. */
  async query(expression: string): Promise<string[]> {
    const url = `${this.#url}/api/v1/query?query=${encodeURIComponent(expression)}`
    const { data } = (await (await fetch(url)).json()) as { data: { result: { value: [number, string] }[] } }
    return data.result.map(({ value }) => value[1])
  }

  async firing(alert: string): Promise<boolean> {
    const answer = await fetch(`${this.#url}/api/v1/alerts`)
    const { data } = (await answer.json()) as {
      data: { alerts: { labels: Record<string, string>; state: string }[] }
    }
    return data.alerts.some(({ labels, state }) => labels.alertname === alert && state === 'firing')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null) return
    const ended = once(this.#process, 'exit')
    this.#process.kill('SIGTERM')
    await ended
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
