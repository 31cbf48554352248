// Checks of the way to the scheduler: this host's identity and certificate, the scheduler's answer, both clocks.

import { clockSkewMsMax } from '../../../protocol/command.ts'
import { type Check, fail, over, pass, skip, type Verdict, warn } from '../check.ts'
import type { DoctorFacts, SchedulerAnswer } from '../facts.ts'

const hourMs = 3_600_000
/** It is renewed at 70 to 90 percent of its life. */
const renewedAt = 0.9
/** Of the date of an HTTP answer: it has no parts of a second, and the answer took its time. */
const clockAheadMsNoise = 2_000
const clockAheadMsGood = 5_000

export const fleetChecks: readonly Check[] = [
  {
    id: 'identity',
    title: 'identity of the host',
    judge: ({ identity }) =>
      over(identity, (found) => {
        if (found === null)
          return warn('the host has joined no scheduler', {
            run: 'hostlet init --token-file FILE',
            note: 'with a token of "hostlet host token".'
          })
        return found.foreign
          ? fail(
              `host ${found.hostId} is another machine: this state directory is a copy`,
              'Join anew, with a token of "hostlet host token": hostlet init --rejoin --token-file FILE. If it is the same host, installed anew: hostlet enroll --moved, as user hostlet.'
            )
          : pass(`host ${found.hostId}`)
      })
  },
  { id: 'certificate', title: 'certificate of the host', judge: certificate },
  { id: 'scheduler', title: 'the scheduler answers', judge: ({ scheduler }) => over(scheduler, answers) },
  {
    id: 'clock-difference',
    title: "the scheduler's clock",
    judge: ({ scheduler }) => over(scheduler, clocks)
  }
]

function certificate({ identity, now }: DoctorFacts): Verdict {
  return over(identity, (found) => {
    if (found === null) return skip('the host has joined no scheduler')
    const { from, to, fault } = found
    if (fault !== undefined)
      return fail(
        firstSentence(fault),
        now > to
          ? 'The agent renews it by itself within the grace of the scheduler: journalctl -u hostlet -p warning. Past it, with a new token: hostlet init --rejoin --token-file FILE.'
          : 'Is the clock right (timedatectl)? Otherwise join anew: hostlet init --rejoin --token-file FILE.'
      )
    const left = `${Math.floor((to - now) / hourMs)} h left`
    return now > from + (to - from) * renewedAt
      ? warn(`${left}, and it should have been renewed by now`, {
          run: 'systemctl restart hostlet',
          note: 'it tries at once; VMs run on. journalctl -u hostlet -p warning says why it could not.'
        })
      : pass(`signed by the fleet's CA, fits its key, ${left}`)
  })
}

function answers(all: readonly SchedulerAnswer[] | null): Verdict {
  if (all === null) return skip('the host has joined no scheduler')
  const bad = all.filter(({ fault }) => fault !== undefined)
  const [first] = bad
  if (first === undefined) return pass(all.map(({ url }) => url).join(', '))
  const [proxy] = first.proxyVariables
  const ofProxy =
    proxy === undefined ? '' : ` ${proxy} is set, and hostlet uses no proxy: open the way itself.`
  const { hostname, port } = new URL(first.url)
  const fix = `getent ahosts ${hostname}; nc -vz ${hostname} ${port || 443}; openssl s_client -connect ${hostname}:${port || 443} show how far it comes.${ofProxy}`
  const text = (first.fault ?? '').slice(0, 130)
  return bad.length === all.length
    ? fail(text, fix)
    : warn(`${all.length - bad.length} of ${all.length} addresses answer; ${text}`.slice(0, 158), fix)
}

function clocks(all: readonly SchedulerAnswer[] | null): Verdict {
  const differences = (all ?? []).flatMap(({ clockAheadMs }) => clockAheadMs ?? [])
  const [first] = differences.toSorted((one, other) => Math.abs(other) - Math.abs(one))
  if (first === undefined) return skip('no scheduler answered')
  const away = Math.abs(first)
  if (away <= clockAheadMsNoise) return pass('the same, to a second or two')
  const text = `${Math.round(away / 1_000)} s ${first > 0 ? 'ahead of' : 'behind'} this host's`
  const fix =
    'timedatectl on both machines shows which one is wrong; systemctl restart systemd-timesyncd (or chrony) there.'
  if (away >= clockSkewMsMax) return fail(`${text}: commands are misjudged`, fix)
  return away > clockAheadMsGood ? warn(text, fix) : pass(text)
}

function firstSentence(text: string): string {
  return (/^.*?[.](?= |$)/.exec(text)?.[0] ?? text).slice(0, 158)
}
