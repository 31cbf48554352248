// What this machine lacks for a first light, in one line.

/** An error whose message is all that a person needs: what is missing, and what to do. */
export class Missing extends Error {}
