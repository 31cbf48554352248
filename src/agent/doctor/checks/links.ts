// Checks of names, addresses and ports that hostlet takes on a host, against those that somebody else has there.

import { both, type Check, fail, over, pass, type Verdict, warn } from '../check.ts'
import type { DoctorFacts } from '../facts.ts'
import { clashingRoutes } from '../subnets.ts'

export const linkChecks: readonly Check[] = [
  { id: 'bridges', title: 'bridges', judge: bridges },
  { id: 'subnets', title: "subnets are hostlet's alone", judge: subnets },
  { id: 'ports', title: 'ports that lead to VMs', judge: ports }
]

function bridges({ links, config }: DoctorFacts): Verdict {
  return over(links, (all) => {
    const prefixes = Object.values(config.profiles)
    const ours = all.filter(({ name }) =>
      prefixes.some(({ bridge, ownBridge }) => (ownBridge ? name.startsWith(bridge) : name === bridge))
    )
    const wrong = ours.find(({ isBridge }) => !isBridge)
    if (wrong !== undefined)
      return fail(
        `${wrong.name} is there and no bridge: a network of hostlet's cannot start`,
        `Give it another name (ip link set ${wrong.name} name NEW), or the profile another bridge in /etc/hostlet/agent.yaml.`
      )
    const open = ours.find(({ hardwarePorts }) => hardwarePorts.length > 0)
    if (open !== undefined)
      return fail(
        `${open.name} has ${open.hardwarePorts.join(', ')} in it: VMs reach the wire past every rule`,
        {
          run: open.hardwarePorts.map((port) => `ip link set ${port} nomaster`).join(' && ')
        }
      )
    return pass(ours.length === 0 ? 'none is up yet' : ours.map(({ name }) => name).join(', '))
  })
}

function subnets({ routes, config }: DoctorFacts): Verdict {
  return over(routes, (all) => {
    const clashes = clashingRoutes(config, all)
    const near = clashes.find(({ route }) => !route.hasGateway)
    const [first] = near === undefined ? clashes : [near]
    if (first === undefined)
      return pass(
        Object.values(config.profiles)
          .map(({ subnet }) => subnet)
          .join(', ')
      )
    const { profile, subnet, route } = first
    const fix = {
      run: 'hostlet init --subnet 10.84.0.0/16',
      note: 'or any other /16 that is free; VMs that exist keep their addresses, so do it before the first one.'
    }
    return near === undefined
      ? warn(
          `${route.network} by ${route.device} holds ${subnet} of profile ${profile}: hidden from this host`,
          fix
        )
      : fail(`${route.network} on ${route.device} and ${subnet} of profile ${profile} share addresses`, fix)
  })
}

function ports({ listening, localPorts, config }: DoctorFacts): Verdict {
  const { first, last } = config.network.ports
  return both(listening, localPorts, (all, local) => {
    const taken = all.filter((port) => port >= first && port <= last)
    const fix = { run: 'hostlet init --ports 20000-29999', note: 'or another range that nobody uses.' }
    if (taken.length > 0)
      return warn(
        `${taken.slice(0, 3).join(', ')} of ${first} to ${last} is listened at: a VM's port there would hide it`,
        fix
      )
    return first <= local.last && last >= local.first
      ? warn(
          `${first} to ${last} overlaps ${local.first} to ${local.last}, which outgoing connections use`,
          fix
        )
      : pass(`${first} to ${last}`)
  })
}
