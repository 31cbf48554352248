// What each file of commands/ exports: how its command is declared.

import type { Command } from 'commander'
import type { Cli } from './cli.ts'

/** Declares arguments, options, examples and the action on a command that has its name and summary already. */
export type Define = (command: Command, cli: Cli) => void
