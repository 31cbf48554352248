// The one list of commands: name, a line of help, and the file that is loaded when the command is used.

import type { Define } from './define.ts'

export interface CommandEntry {
  readonly words: readonly [string] | readonly [string, string]
  readonly summary: string
  readonly load: () => Promise<{ define: Define }>
}

/** Summaries of the groups, in the order in which help shows them. */
export const groups: Readonly<Record<string, string>> = {
  config: 'configuration files',
  host: 'hosts of the fleet',
  vm: 'virtual machines',
  backup: 'backups: what there is, whether it is good, and the way out after a disaster',
  op: 'operations: what became of each command',
  audit: 'who asked for what and what came of it: the trail of this host, the calls of the scheduler',
  key: 'API keys',
  rotate: 'the keys that the fleet goes by: its CA and its command key',
  approver: 'people whose signature a host wants besides the scheduler’s',
  policy: 'what a host does for nobody, or for several together only',
  image: 'images on hosts'
}

export const commands: readonly CommandEntry[] = [
  { words: ['agent'], summary: 'run the agent on this host', load: () => import('./commands/agent.ts') },
  { words: ['scheduler'], summary: 'run the scheduler', load: () => import('./commands/scheduler.ts') },
  {
    words: ['init'],
    summary: 'make this machine a host of a fleet, or its scheduler',
    load: () => import('./commands/init.ts')
  },
  {
    words: ['enroll'],
    summary: 'let this host join a scheduler',
    load: () => import('./commands/enroll.ts')
  },
  {
    words: ['config', 'check'],
    summary: 'check a configuration file of agent or scheduler',
    load: () => import('./commands/config-check.ts')
  },
  {
    words: ['apply'],
    summary: 'have VMs be as files want them',
    load: () => import('./commands/apply.ts')
  },
  {
    words: ['diff'],
    summary: 'what apply would change',
    load: () => import('./commands/diff.ts')
  },
  { words: ['host', 'ls'], summary: 'list hosts', load: () => import('./commands/host-ls.ts') },
  { words: ['host', 'show'], summary: 'show one host', load: () => import('./commands/host-show.ts') },
  {
    words: ['host', 'vms'],
    summary: 'have a host list the VMs that it has now',
    load: () => import('./commands/host-vms.ts')
  },
  {
    words: ['host', 'token'],
    summary: 'make, list or revoke the tokens with which hosts join',
    load: () => import('./commands/host-token.ts')
  },
  {
    words: ['host', 'rotate-key'],
    summary: 'replace the key of a host that disk keys are wrapped under',
    load: () => import('./commands/host-rotate-key.ts')
  },
  {
    words: ['host', 'clean'],
    summary: 'remove from a host what VMs that are gone left there',
    load: () => import('./commands/host-clean.ts')
  },
  {
    words: ['host', 'drain'],
    summary: 'have a host take no new work, and wait for what it does; its VMs run on',
    load: () => import('./commands/host-drain.ts')
  },
  {
    words: ['host', 'resume'],
    summary: 'have a drained host take work again',
    load: () => import('./commands/host-resume.ts')
  },
  {
    words: ['host', 'refresh'],
    summary: 'have a host look at itself anew',
    load: () => import('./commands/host-refresh.ts')
  },
  {
    words: ['host', 'label'],
    summary: 'set and remove labels of a host',
    load: () => import('./commands/host-label.ts')
  },
  {
    words: ['host', 'candidates'],
    summary: 'where a VM would stand, and why not elsewhere',
    load: () => import('./commands/host-candidates.ts')
  },
  {
    words: ['host', 'metrics'],
    summary: 'what a host has used of late',
    load: () => import('./commands/host-metrics.ts')
  },
  {
    words: ['host', 'rm'],
    summary: 'revoke a host; its VMs run on',
    load: () => import('./commands/host-rm.ts')
  },
  {
    words: ['host', 'settle'],
    summary: 'let a host connect again that two machines had claimed to be',
    load: () => import('./commands/host-settle.ts')
  },
  { words: ['vm', 'ls'], summary: 'list VMs', load: () => import('./commands/vm-ls.ts') },
  { words: ['vm', 'show'], summary: 'show one VM', load: () => import('./commands/vm-show.ts') },
  {
    words: ['vm', 'create'],
    summary: 'provision a VM from an image',
    load: () => import('./commands/vm-create.ts')
  },
  {
    words: ['vm', 'export'],
    summary: 'print a VM as a file for "hostlet apply"',
    load: () => import('./commands/vm-export.ts')
  },
  { words: ['vm', 'start'], summary: 'start a VM', load: () => import('./commands/vm-start.ts') },
  {
    words: ['vm', 'resize'],
    summary: 'change the sizes and limits of a VM',
    load: () => import('./commands/vm-resize.ts')
  },
  { words: ['vm', 'stop'], summary: 'shut a VM down', load: () => import('./commands/vm-stop.ts') },
  {
    words: ['vm', 'rekey'],
    summary: 'give the disks of a VM new passphrases',
    load: () => import('./commands/vm-rekey.ts')
  },
  { words: ['vm', 'reboot'], summary: 'reboot a VM', load: () => import('./commands/vm-reboot.ts') },
  {
    words: ['vm', 'rm'],
    summary: 'erase a VM with its keys and disks, now or after some days',
    load: () => import('./commands/vm-rm.ts')
  },
  {
    words: ['vm', 'undelete'],
    summary: 'have a VM back that was torn down and is still kept',
    load: () => import('./commands/vm-undelete.ts')
  },
  {
    words: ['vm', 'reimage'],
    summary: 'give a VM a new root disk made of another image',
    load: () => import('./commands/vm-reimage.ts')
  },
  {
    words: ['vm', 'erase-certificate'],
    summary: 'show what a host signed when it erased a VM',
    load: () => import('./commands/vm-erase-certificate.ts')
  },
  {
    words: ['vm', 'metrics'],
    summary: 'what a VM has used of late',
    load: () => import('./commands/vm-metrics.ts')
  },
  {
    words: ['vm', 'refresh'],
    summary: 'have its host look at a VM anew',
    load: () => import('./commands/vm-refresh.ts')
  },
  {
    words: ['vm', 'console'],
    summary: 'the serial console of a VM, in this terminal',
    load: () => import('./commands/vm-console.ts')
  },
  {
    words: ['vm', 'audit'],
    summary: 'check whether a VM is isolated as promised',
    load: () => import('./commands/vm-audit.ts')
  },
  {
    words: ['vm', 'repair'],
    summary: 'put a VM right where it is not as its records say',
    load: () => import('./commands/vm-repair.ts')
  },
  {
    words: ['vm', 'forget'],
    summary: 'drop the record of a VM whose host is revoked',
    load: () => import('./commands/vm-forget.ts')
  },
  {
    words: ['vm', 'backup'],
    summary: 'back a VM up into a repository',
    load: () => import('./commands/vm-backup.ts')
  },
  {
    words: ['vm', 'restore'],
    summary: 'make a VM of a backup, or put its disks back',
    load: () => import('./commands/vm-restore.ts')
  },
  {
    words: ['vm', 'schedule'],
    summary: 'have a VM backed up by itself, or show how that goes',
    load: () => import('./commands/vm-schedule.ts')
  },
  {
    words: ['vm', 'keys'],
    summary: 'the keys of disks that lie at the scheduler, wrapped',
    load: () => import('./commands/vm-keys.ts')
  },
  {
    words: ['vm', 'recover-keys'],
    summary: 'hand the keys of a VM’s disks back to its host, with a recovery key',
    load: () => import('./commands/vm-recover-keys.ts')
  },
  {
    words: ['backup', 'ls'],
    summary: 'list backups, of the scheduler or of a repository',
    load: () => import('./commands/backup-ls.ts')
  },
  {
    words: ['backup', 'runs'],
    summary: 'how backups went, the failed ones too',
    load: () => import('./commands/backup-runs.ts')
  },
  {
    words: ['backup', 'find'],
    summary: 'have a host look what lies in a repository',
    load: () => import('./commands/backup-find.ts')
  },
  { words: ['backup', 'show'], summary: 'show one backup', load: () => import('./commands/backup-show.ts') },
  {
    words: ['backup', 'verify'],
    summary: 'read a whole backup and check every block',
    load: () => import('./commands/backup-verify.ts')
  },
  {
    words: ['backup', 'export'],
    summary: 'write a disk of a backup to a qcow2 or raw file',
    load: () => import('./commands/backup-export.ts')
  },
  {
    words: ['backup', 'prune'],
    summary: 'remove the backups of a VM that no rule keeps',
    load: () => import('./commands/backup-prune.ts')
  },
  {
    words: ['backup', 'keygen'],
    summary: 'make a recovery key',
    load: () => import('./commands/backup-keygen.ts')
  },
  {
    words: ['backup', 'rewrap'],
    summary: 'let other keys open the backups of a repository',
    load: () => import('./commands/backup-rewrap.ts')
  },
  { words: ['op', 'ls'], summary: 'list operations', load: () => import('./commands/op-ls.ts') },
  { words: ['op', 'show'], summary: 'show one operation', load: () => import('./commands/op-show.ts') },
  {
    words: ['op', 'placement'],
    summary: 'why the VM that an operation made stands on its host',
    load: () => import('./commands/op-placement.ts')
  },
  {
    words: ['op', 'wait'],
    summary: 'follow an operation to its end',
    load: () => import('./commands/op-wait.ts')
  },
  {
    words: ['op', 'cancel'],
    summary: 'end an operation before its time',
    load: () => import('./commands/op-cancel.ts')
  },
  {
    words: ['audit', 'ls'],
    summary: 'show the audit trail of this host, or the calls of the scheduler',
    load: () => import('./commands/audit-ls.ts')
  },
  {
    words: ['audit', 'verify'],
    summary: 'check that an audit trail is whole, and find where it is not',
    load: () => import('./commands/audit-verify.ts')
  },
  {
    words: ['audit', 'export'],
    summary: 'write an audit trail as CSV or lines of JSON',
    load: () => import('./commands/audit-export.ts')
  },
  {
    words: ['audit', 'accept'],
    summary: 'take the audit trail of a host as it is from now on',
    load: () => import('./commands/audit-accept.ts')
  },
  {
    words: ['approve'],
    summary: 'sign an operation that waits for an approval',
    load: () => import('./commands/approve.ts')
  },
  {
    words: ['approver', 'keygen'],
    summary: 'make the key of an approver',
    load: () => import('./commands/approver-keygen.ts')
  },
  {
    words: ['policy', 'check'],
    summary: 'check the policy of a host, and what it asks of a command',
    load: () => import('./commands/policy-check.ts')
  },
  { words: ['key', 'ls'], summary: 'list API keys', load: () => import('./commands/key-ls.ts') },
  { words: ['key', 'create'], summary: 'make an API key', load: () => import('./commands/key-create.ts') },
  { words: ['key', 'rm'], summary: 'revoke an API key', load: () => import('./commands/key-rm.ts') },
  {
    words: ['key', 'rotate'],
    summary: 'make an API key in place of one, which stays good for a while',
    load: () => import('./commands/key-rotate.ts')
  },
  {
    words: ['key', 'second-factor'],
    summary: 'set up a second factor of your key, or remove that of another',
    load: () => import('./commands/key-second-factor.ts')
  },
  {
    words: ['key', 'rescue'],
    summary: 'on the scheduler’s machine: make an admin key for an hour when nobody gets in',
    load: () => import('./commands/key-rescue.ts')
  },
  {
    words: ['rotate', 'ca'],
    summary: 'replace the CA of the fleet, step by step',
    load: () => import('./commands/rotate-ca.ts')
  },
  {
    words: ['rotate', 'command-key'],
    summary: 'replace the key that signs commands, step by step',
    load: () => import('./commands/rotate-command-key.ts')
  },
  { words: ['events'], summary: 'show what happened to VMs', load: () => import('./commands/events.ts') },
  {
    words: ['image', 'prefetch'],
    summary: 'have a host fetch an image before it is needed',
    load: () => import('./commands/image-prefetch.ts')
  },
  {
    words: ['doctor'],
    summary: 'check this host: what is missing, open or in the way',
    load: () => import('./commands/doctor.ts')
  },
  {
    words: ['login'],
    summary: 'sign in with a key and its second factor, for the commands that follow',
    load: () => import('./commands/login.ts')
  },
  { words: ['logout'], summary: 'end that session', load: () => import('./commands/logout.ts') },
  {
    words: ['whoami'],
    summary: 'as whom the scheduler sees you',
    load: () => import('./commands/whoami.ts')
  },
  {
    words: ['status'],
    summary: 'the state of this host, or the scheduler and its fleet in numbers',
    load: () => import('./commands/status.ts')
  },
  {
    words: ['why'],
    summary: 'why a VM, an operation or a host is as it is, and what to do',
    load: () => import('./commands/why.ts')
  },
  {
    words: ['logs'],
    summary: 'the log of the agent, of one VM or of one operation',
    load: () => import('./commands/logs.ts')
  },
  { words: ['top'], summary: 'live table of hosts and VMs', load: () => import('./commands/top.ts') },
  {
    words: ['verify-certificate'],
    summary: 'check an erase certificate, without a scheduler',
    load: () => import('./commands/verify-certificate.ts')
  },
  {
    words: ['completion'],
    summary: 'print what makes a shell complete commands, options and names',
    load: () => import('./commands/completion.ts')
  },
  { words: ['version'], summary: 'print versions', load: () => import('./commands/version.ts') }
]
