// What is kept of approvals: signatures of others under a command, which go to its host with it.

export interface KeptApproval {
  /** As it names itself: only the host can tell whether it is so. */
  readonly approver: string
  readonly jws: string
  readonly receivedAt: number
  /** Id of the API key that brought it. */
  readonly receivedFrom: string
}

export interface ApprovalStore {
  /**
   * Kept in the place of an earlier one of the same approver, and the command is due to be sent again. False when the
   * command has ended. Throws E_CONFLICT when as many others have approved it as go along with a command.
   */
  add(command: string, approval: KeptApproval): Promise<boolean>
  /** The oldest first. They stay as long as the command is remembered. */
  of(command: string): Promise<readonly KeptApproval[]>
}
