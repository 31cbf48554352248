// Checks of what is the agent's own: keys, directories, policy.

import { hostKeyCredential, hostKeyName } from '../../backups/host-key.ts'
import { type Check, fail, over, pass, skip, type Verdict, warn } from '../check.ts'
import type { DoctorFacts, Place } from '../facts.ts'

/** Keys of the host: the credential that may hold each, and its file otherwise. */
export const hostKeys = [
  { what: 'secrets and disks', credential: 'hostlet-host-key', file: 'host-key.jwk' },
  { what: 'backups', credential: hostKeyCredential, file: hostKeyName }
] as const

export const agentChecks: readonly Check[] = [
  {
    id: 'state-directory',
    title: 'state directory',
    judge: ({ places: { state }, agentUser }) =>
      over(state, ({ path, mode, uid }) => {
        if ((mode & 0o077) !== 0)
          return fail(`${path} is open to others (${octal(mode)})`, { run: `chmod 700 ${path}` })
        const owner = 'value' in agentUser ? agentUser.value?.uid : undefined
        return owner !== undefined && owner !== uid
          ? fail(`${path} belongs to user ${uid}, not to hostlet`, {
              run: `chown -R hostlet: ${path}`
            })
          : pass(`${path}, ${octal(mode)}`)
      })
  },
  {
    id: 'key-files',
    title: 'files of keys',
    judge: ({ keyFiles }) =>
      over(keyFiles, (files) => {
        const open = files.filter(({ mode }) => (mode & 0o077) !== 0)
        return open.length === 0
          ? pass(files.length === 0 ? 'none yet' : `${files.length}, for their owner alone`)
          : fail(`${open[0]?.path} can be read by others`, {
              run: `chmod 600 ${open.map(({ path }) => path).join(' ')}`
            })
      })
  },
  { id: 'host-keys', title: "where the host's keys lie", judge: hostKeyPlaces },
  {
    id: 'pool-directory',
    title: 'directory of the disks',
    judge: ({ places: { pool } }) => over(pool, poolDirectory)
  },
  {
    id: 'pool-answers',
    title: 'storage of the disks',
    judge: ({ poolAnswers }) =>
      over(poolAnswers, (pools) => {
        const silent = pools.find(({ answer }) => answer === 'none')
        if (silent !== undefined)
          return fail(
            `${silent.path} does not answer: VMs with disks there stand still when they write`,
            'Look at its disk or file server (dmesg, /proc/mounts). When it answers again nothing has to be restarted.'
          )
        if (pools.length === 0) return skip('no pool was made yet')
        return pools.every(({ answer }) => answer === 'written')
          ? pass('answers')
          : pass('can be read; as root it is tried whether it can be written')
      })
  },
  {
    id: 'policy',
    title: 'policy of the host',
    judge: ({ policy, config: { backup } }) =>
      over(policy, (found) => {
        if (found === null)
          return warn(
            `no ${backup.policy}: this host takes no backups`,
            'Write one from config/policy.yaml; hostlet policy check tells its faults.'
          )
        if ('fault' in found)
          return fail(`${found.fault} Commands that change anything are refused`, {
            run: `hostlet policy check ${backup.policy}`
          })
        return found.repositories === 0
          ? warn(
              `${backup.policy} names no repository: this host takes no backups`,
              'Name one under repositories.'
            )
          : pass(backup.policy)
      })
  },
  {
    id: 'command-rules',
    title: 'rules for commands',
    judge: ({ policy }) =>
      over(policy, (found) => {
        if (found !== null && 'fault' in found) return skip('the policy cannot be read')
        const rules = found?.rules ?? []
        return rules.length > 0
          ? pass(rules.join('; '))
          : warn(
              'none: whoever holds the scheduler may remove every VM of this host',
              'Set bounds under commands in the policy: docs/operate-policy.md.'
            )
      })
  },
  {
    id: 'leftovers',
    title: 'left of VMs that are gone',
    judge: ({ leftovers }) =>
      over(leftovers, (report) => {
        if (report === null) return skip('the agent has not looked since the host booted')
        // A lease ends by itself.
        const items = report.items.filter(({ kind }) => kind !== 'lease')
        const ours = items.filter(({ verdict }) => verdict === 'ours')
        const [first] = ours
        if (first === undefined)
          return pass(items.length === 0 ? 'nothing' : `${items.length}, none of it provably hostlet's`)
        return warn(
          `${ours.length} provably ours, such as ${first.kind} ${first.name}; ${items.length - ours.length} that may be`,
          'hostlet host clean ID --dry-run lists them with the reasons, hostlet host clean ID removes what is proven.'
        )
      })
  },
  {
    id: 'recovery-key',
    title: 'recovery key',
    judge: ({ policy }) =>
      over(policy, (found) => {
        if (found === null || 'fault' in found || found.recoveryKeys === 0)
          return warn(
            'none: what this host encrypts is lost with it',
            'hostlet backup keygen on another machine; its public half goes into the policy (recovery).'
          )
        return pass(`${found.recoveryKeys} in the policy`)
      })
  }
]

function hostKeyPlaces({ credentials, keyFiles, tpm }: DoctorFacts): Verdict {
  return over(credentials, (names) =>
    over(keyFiles, (files) => {
      const inFiles = hostKeys.filter(({ credential }) => !names.includes(credential))
      if (inFiles.length === 0) return pass('systemd credentials')
      const made = inFiles.filter(({ file }) => files.some(({ path }) => path.endsWith(`/${file}`)))
      if (made.length === 0) return skip('no key was made yet: the agent makes them at its first start')
      const sealed = 'value' in tpm && tpm.value ? '--with-key=host+tpm2 ' : ''
      return warn(
        `those of ${made.map(({ what }) => what).join(' and ')} are files: a copy of the disk opens what they opened`,
        `systemd-creds encrypt ${sealed}--name=${made[0]?.credential} FILE /etc/credstore.encrypted/${made[0]?.credential}, and LoadCredentialEncrypted= in a drop-in of the unit.`
      )
    })
  )
}

function poolDirectory({ path, mode, uid }: Place): Verdict {
  if (uid !== 0) return fail(`${path} belongs to user ${uid}`, { run: `chown root: ${path}` })
  if ((mode & 0o022) !== 0)
    return fail(`others may write to ${path} (${octal(mode)})`, { run: `chmod 711 ${path}` })
  if ((mode & 0o001) === 0)
    return fail(`users of VMs cannot pass through ${path} (${octal(mode)})`, { run: `chmod 711 ${path}` })
  return (mode & 0o044) === 0
    ? pass(`${path}, ${octal(mode)}`)
    : warn(`everybody may list ${path} (${octal(mode)})`, { run: `chmod 711 ${path}` })
}

function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, '0')
}
