// Writes docs/metrics.md, its tables from the declarations of the metrics. Run: node scripts/generate-metric-docs.ts

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { MetricFamily } from '../src/lib/exposition.ts'
import { agentSections, type MetricSection, schedulerSections, sharedSections } from './metric-families.ts'

export const metricsPagePath = join(import.meta.dirname, '..', 'docs', 'metrics.md')

const introduction = `# Metrics

hostlet exports metrics in the text format of Prometheus. One scrape of the scheduler covers the fleet; an agent tells of its
own host what the scheduler does not know. A ready configuration, alert rules and a dashboard are in
[monitoring/](../monitoring/README.md); what each alert means is in [alerts.md](alerts.md).

## The scheduler

\`GET /metrics\`, with an API key of tier \`read\`:

\`\`\`sh
hostlet key create read --note prometheus > prometheus.key
curl --cacert ca.pem -H "Authorization: Bearer $(cat prometheus.key)" https://SCHEDULER:7443/metrics
\`\`\`

Prometheus sends the key with \`authorization: {credentials_file: …}\`. At most 8 answers are on their way at once, 4 of one
key: more are answered with 429 and \`retry-after\`; one that is not read within a minute is cut. \`/metrics?vms=false\` leaves out what is told of each VM
and each backup: in a fleet of many thousand VMs, scrape that often and the whole seldom, as two jobs.

What is shown is known now. Of a host that is away there are only \`hostlet_host_up\` with 0, when it was last heard, its
certificate, its backups and what the scheduler itself knows of it: no figure, state or condition of before. A figure whose
newest sample is older than a minute (or four intervals, where that is longer) is left out too. No value carries a timestamp,
so Prometheus takes what is gone for gone at the next scrape; \`honor_timestamps\` makes no difference.

Counters that end in \`_total\` and are of the scheduler itself begin anew with its process, as \`rate()\` and \`increase()\`
expect. Those of a VM begin anew when it is started.

## An agent

Off by default. With this in \`agent.yaml\` the agent answers \`http://127.0.0.1:9177/metrics\`:

\`\`\`yaml
metrics:
  listen: 127.0.0.1:9177
\`\`\`

The unit lets the agent open no port at all. \`systemctl edit hostlet\` allows this one:

\`\`\`ini
[Service]
SocketBindAllow=tcp:9177
\`\`\`

Nobody has to log in there, so only addresses of the loopback are taken; every user of the host sees names and load of its
VMs. A port that is taken is told in the log, and the agent goes on without. The figures are those of the newest sample:
a scrape asks neither libvirt nor the kernel for them.

Where both are scraped, keep only \`hostlet_agent_…\` and the metrics of the process from agents, as the sample configuration
does: the rest has the same names and labels at the scheduler, and alerts would fire twice.

## Labels

\`host\` is the id of the host, \`vm\` the name of a VM and \`uuid\` its UUID, \`target\` a repository of backups. Their values are
bounded by what there is: no label has values that a guest or an asker chooses. \`verb\`, \`outcome\`, \`state\`, \`condition\`,
\`severity\`, \`route\`, \`status\` and \`reason\` are words of hostlet.

## Reference

Times are seconds, sizes bytes, shares 0 to 1.
`

export function metricsPage(): string {
  const sections = [
    ...sharedSections.map((section) => sectionText(section, 'Agents and the scheduler.')),
    ...agentSections.map((section) => sectionText(section, 'Since the agent started, where they count.')),
    ...schedulerSections.map((section) => sectionText(section))
  ]
  return [introduction, ...sections].join('\n')
}

function sectionText({ title, families, onlyScheduler = [] }: MetricSection, note?: string): string {
  const rows = families.map((family) => row(family, onlyScheduler.includes(family)))
  const head = ['| metric | type | labels | unit | meaning |', '|---|---|---|---|---|']
  return [`### ${title}\n`, ...(note === undefined ? [] : [`${note}\n`]), ...head, ...rows, ''].join('\n')
}

function row({ name, type, labels, help }: MetricFamily, isOnlyScheduler: boolean): string {
  const meaning = isOnlyScheduler ? `${help} Only at the scheduler.` : help
  const words = labels.map((label) => `\`${label}\``).join(', ')
  return `| \`${name}\` | ${type} | ${words} | ${unitOf(name)} | ${meaning.replaceAll('|', '\\|')} |`
}

const units = ['bytes', 'seconds', 'ratio'] as const

function unitOf(name: string): string {
  const bare = name.replace(/_total$/, '')
  return units.find((unit) => bare.endsWith(`_${unit}`)) ?? ''
}

if (import.meta.main) writeFileSync(metricsPagePath, metricsPage())
