// Where the policy lies, and whose files it believes.

export const policyPath = '/etc/hostlet/policy.yaml'

/**
 * Users whose files are believed besides root's. In its usual place the policy has to be root's, since what hostlet's
 * own user may write hostlet may be made to write; elsewhere, which is for trials, it may belong to the agent's user.
 */
export function policyOwners(path: string): readonly number[] {
  const uid = process.geteuid?.()
  return path.startsWith('/etc/') || uid === undefined ? [] : [uid]
}
